"""Digests against their definitions, whatever the pieces in which the bytes come."""

from __future__ import annotations

import hashlib
import random
import struct
from itertools import pairwise
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.installs.hashing import HEADER_LIMIT, Digests, Hasher, hash_file

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure


def digests(body: bytes, *cuts: int) -> Digests:
    hasher = Hasher()
    edges = [0, *sorted(cuts), len(body)]
    for start, end in pairwise(edges):
        hasher.update(body[start:end])
    return hasher.digests()


def safetensors(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def test_the_digests_are_those_of_their_definitions() -> None:
    file = safetensors(b'{"a":1}', b"weights")
    assert digests(file) == Digests(
        size=len(file),
        blake3=blake3(file).hexdigest(),
        sha256=hashlib.sha256(file).hexdigest(),
        autov3=hashlib.sha256(b"weights").hexdigest(),
    )


def test_autov3_tells_the_same_weights_from_the_same_file() -> None:
    one, other = (digests(safetensors(header, b"weights")) for header in (b"{}", b'{"__metadata__":{}}'))
    assert one.autov3 == other.autov3
    assert one.sha256 != other.sha256


@pytest.mark.parametrize("size", [0x100000, 0x100001, 0x108000, 0x110000, 0x110001, 0x200000])
@pytest.mark.parametrize("step", [1 << 16, 999_983, 1 << 22])
def test_autov1_is_of_the_64_kib_at_1_mib(size: int, step: int) -> None:
    file = random.Random(size).randbytes(size)
    expected = hashlib.sha256(file[0x100000:0x110000]).hexdigest()[:8]
    found = digests(file, *range(step, size, step))
    assert found.autov1 == (expected if size > 0x100000 else None)
    assert found.by_algorithm()["autov1"] == found.autov1


@unhurried
@given(st.binary(min_size=0, max_size=40), st.binary(max_size=60), st.lists(st.integers(0, 108), max_size=8))
def test_pieces_change_nothing(tail: bytes, body: bytes, cuts: list[int]) -> None:
    file = safetensors(b"{" + tail + b"}", body)
    whole = digests(file, *[min(cut, len(file)) for cut in cuts])
    assert whole == digests(file) == digests(file, *range(len(file)))
    assert whole.autov3 == hashlib.sha256(body).hexdigest()


@unhurried
@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=4))
def test_pieces_change_nothing_of_other_files(file: bytes, cuts: list[int]) -> None:
    assert digests(file, *[min(cut, len(file)) for cut in cuts]) == digests(file)


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\x02",
        struct.pack("<Q", 2),
        b"<!DOCTYPE html><html></html>",
        b"GGUF\x03\x00\x00\x00" + bytes(40),
        b"PK\x03\x04\x14\x00\x00\x00{" + bytes(40),
        struct.pack("<Q", 12) + b"not a header" + bytes(40),
        struct.pack("<Q", 1000) + b'{"a":1}',
        struct.pack("<Q", HEADER_LIMIT + 1) + b"{",
        struct.pack("<Q", 0) + b"{}",
    ],
    ids=["empty", "one byte", "eight bytes", "html", "gguf", "zip", "no JSON", "truncated", "too long", "no header"],
)
def test_a_file_that_is_not_safetensors_has_no_autov3(file: bytes) -> None:
    assert digests(file).autov3 is None


def test_safetensors_without_tensors() -> None:
    assert digests(safetensors(b"{}", b"")).autov3 == EMPTY


def test_a_file_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors(b"{}", bytes(3_000_000)))
    assert hash_file(path) == digests(path.read_bytes())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hash_file(tmp_path / "absent")
