"""GGUF: the same networks under the same names, in another container."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from probes import HeaderIncomplete, Kind, UnreadableModel, parse_header, probe
from tests.probes import headers


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(tensors: Mapping[str, tuple[int, ...]], pairs: bytes = b"", count: int = 0, kind: int = 8) -> bytes:
    """A GGUF 3 file's header; all tensors of one type (8: Q8_0, blocks of 32 in 34 bytes; 0: F32), one after another."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), count) + pairs
    at = 0
    for name, shape in tensors.items():
        out += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in reversed(shape))
        out += struct.pack("<IQ", kind, at)
        at += aligned(math.prod(shape) // 32 * 34 if kind == 8 else math.prod(shape) * 4)
    return out


def aligned(size: int, to: int = 32) -> int:
    return -(-size // to) * to


def whole(header: bytes, tensors: Mapping[str, tuple[int, ...]]) -> int:
    """Size of the file with its Q8_0 tensors, the last one's padding included."""
    return aligned(len(header)) + sum(aligned(math.prod(shape) // 32 * 34) for shape in tensors.values())


PAIRS = text("general.architecture") + struct.pack("<I", 8) + text("flux")
PAIRS += text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
PAIRS += (
    text("scores")
    + struct.pack("<IIQ", 9, 6, 2)
    + struct.pack("<ff", 1, 2)
    + text("general.file_type")
    + struct.pack("<II", 4, 7)
)


def test_flux_in_gguf(tmp_path: Path) -> None:
    tensors = {name: shape for name, (_, shape) in headers.load("flux-1-dev-bfl").tensors.items()}
    path, data = tmp_path / "flux1-dev-Q8_0.gguf", gguf(tensors, PAIRS, 4)
    path.write_bytes(data)
    os.truncate(path, whole(data, tensors))
    report = probe(path)
    assert (report.kind, report.family, report.variant, report.format) == (Kind.CHECKPOINT, "flux-1", "dev", "gguf")


def test_values_dtypes_and_order_of_dimensions() -> None:
    tensors = {"img_in.weight": (3072, 64)}
    data = gguf(tensors, PAIRS, 4)
    header = parse_header(data, whole(data, tensors))
    assert header.metadata == {"general.architecture": "flux", "general.file_type": "7"}
    assert (header.tensors["img_in.weight"].dtype, header.tensors["img_in.weight"].shape) == ("Q8_0", (3072, 64))
    assert header.header_bytes == len(data)


def array(kind: int, code: str, *values: int) -> bytes:
    return struct.pack(f"<IIQ{len(values)}{code}", 9, kind, len(values), *values)


FIRST = text("comfy.gguf.orig_shape.a")


@pytest.mark.parametrize(("name", "family"), [("unet-sd-1-ldm", "sd-1"), ("unet-sdxl-ldm", "sdxl")])
def test_shapes_that_city96_s_converter_laid_out_in_rows_are_restored(name: str, family: str) -> None:
    before = {key: shape for key, (_, shape) in headers.load(name).tensors.items()}
    rows = {
        key: (math.prod(shape) // 256, 256) if len(shape) > 1 and math.prod(shape) % 256 == 0 else shape
        for key, shape in before.items()
    }
    changed = {key: shape for key, shape in before.items() if rows[key] != shape}
    pairs = b"".join(text(f"comfy.gguf.orig_shape.{key}") + array(5, "i", *shape) for key, shape in changed.items())
    data = gguf(rows, pairs, len(changed), kind=0)
    header = parse_header(data + bytes(32), 1 << 40)
    assert {key: header.tensors[key].shape for key in before} == before
    report = probe(header)
    assert (report.kind, report.family, report.variant) == (Kind.CHECKPOINT, family, "normal")


def test_remote_prefix_asks_for_more() -> None:
    data = gguf({"a": (32,)}, PAIRS, 4)
    with pytest.raises(HeaderIncomplete) as caught:
        parse_header(data[:40], 1 << 30)
    assert 40 < caught.value.needed <= 1 << 30


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "unsupported_format"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "too_many_tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 8, 1 << 40), "header_too_large"),
        (gguf({"a": (1,)}, kind=999), "unknown_dtype"),
        (gguf({"a": (33,)}), "size_mismatch"),
        (gguf({"a": (32,)}) + bytes(32), "truncated"),
        (gguf({"a": (32,)}, text("general.alignment") + struct.pack("<II", 4, 33), 1), "bad_header"),
        (gguf({"a": (32,)}, text("general.alignment") + struct.pack("<I", 8) + text("odd"), 1), "bad_header"),
        (gguf({"a": (32,)})[:-8] + struct.pack("<Q", 5) + bytes(64), "bad_offsets"),
        (gguf({"a": (32,), "b": (32,)})[:-8] + bytes(8) + bytes(64), "overlapping_tensors"),
        (gguf({"a": (1 << 40, 1 << 40)}), "shape_overflow"),
        (gguf({"a": (32,)})[:-4], "truncated"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 62), "header_too_large"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<I", 77), "bad_header"),
        (gguf({"a": (32,)}, FIRST + array(5, "i", 3, 4, 2), 1) + bytes(64), "bad_shape"),
        (gguf({"a": (32,)}, FIRST + array(5, "i", -4, -8), 1) + bytes(64), "bad_shape"),
        (gguf({"a": (32,)}, FIRST + array(5, "i", *[1] * 9), 1), "bad_header"),
        (gguf({"a": (32,)}, FIRST + struct.pack("<II", 5, 32) + bytes(8), 1), "bad_header"),
        (gguf({"a": (32,), "b": (32,)}).replace(text("b"), text("a")) + bytes(128), "duplicate_names"),
        (gguf({"a": (32,)}, PAIRS + PAIRS, 8) + bytes(64), "duplicate_names"),
        (gguf({"a": (32,)}, 2 * (text("k") + array(4, "I", 1)), 2) + bytes(64), "duplicate_names"),
        (gguf({"a": (32,)}, 2 * (FIRST + array(5, "i", 32)), 2) + bytes(64), "duplicate_names"),
    ],
    ids=[
        "version",
        "tensors",
        "texts",
        "type",
        "broken row",
        "data cut",
        "alignment",
        "alignment that is text",
        "unaligned",
        "overlap",
        "shape",
        "cut",
        "string length",
        "value type",
        "first shape of another size",
        "negative first shape",
        "first shape of nine dimensions",
        "first shape that is a number",
        "a tensor twice",
        "a text twice",
        "an array twice",
        "a first shape twice",
    ],
)
def test_refused(data: bytes, code: str) -> None:
    with pytest.raises(UnreadableModel) as caught:
        parse_header(data, len(data))
    assert caught.value.code == code


def test_a_file_for_big_endian_machines_is_called_so() -> None:
    data = b"GGUF" + struct.pack(">IQQ", 3, 0, 0)
    with pytest.raises(UnreadableModel, match="big-endian"):
        parse_header(data, len(data))
