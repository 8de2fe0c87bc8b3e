"""Bytes that are no model, or not a whole one: each is refused with its own code and a sentence that says what to do."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from probes import HeaderIncomplete, TensorSpec, UnreadableModel, parse_header, read_header
from probes.containers.safetensors import HEADER_CAP, TENSOR_CAP
from tests.probes import headers

ONE = {"a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}


def packed(document: Any, data: bytes = bytes(12)) -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes: Any) -> dict[str, Any]:
    return {"a": {**ONE["a"], **changes}}


def deep(brackets: int) -> Any:
    return json.loads("[" * brackets + "]" * brackets)


def two(first: list[int], second: list[int]) -> dict[str, Any]:
    return {
        name: {"dtype": "U8", "shape": [span[1] - span[0]], "data_offsets": span}
        for name, span in (("a", first), ("b", second))
    }


WELL = packed(ONE)
ENTRY = json.dumps(ONE["a"]).encode()
NEST = b"[" * 500 + b"]" * 500  # read, and more than repr could say
REFUSED: dict[str, tuple[str, bytes]] = {
    "empty": ("empty_file", b""),
    "too short": ("too_short", b"\x10\0\0"),
    "web page": ("html_page", b"<!DOCTYPE html><html><body>404</body></html>"),
    "web page after blank lines": ("html_page", b"\r\n\r\n  <HTML lang=en>" + bytes(50)),
    "web page in UTF-16": ("html_page", "<!DOCTYPE html><html>".encode("utf-16")),
    "web page in UTF-16 without a mark": ("html_page", "\n<html lang=en>".encode("utf-16-be")),
    "web page that begins with a comment": ("html_page", b"<!-- saved from url=(0014)about:internet --><html>"),
    "web page that begins with a script": ("html_page", b"<script>location.href = '/login'</script>"),
    "text in UTF-16": ("text_file", "Not found, sorry".encode("utf-16")),
    "git-LFS pointer that a shell wrote in UTF-16": (
        "lfs_pointer",
        "version https://git-lfs.github.com".encode("utf-16"),
    ),
    "git-LFS pointer": ("lfs_pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n"),
    "site's error message": ("text_file", b'{"error": "Repository not found"}'),
    "lines of text": ("text_file", b"Not\r\n\tfound, sorry about that"),
    "bzip2 archive": ("archive", b"BZh91AY&SY" + bytes(50)),
    "xz archive": ("archive", b"\xfd7zXZ\x00" + bytes(50)),
    "Zstandard archive": ("archive", b"\x28\xb5\x2f\xfd" + bytes(50)),
    "NumPy array": ("unsupported_format", b"\x93NUMPY\x01\x00" + bytes(50)),
    "plain text": ("text_file", b"Entry not found, sorry about that"),
    "zip archive": ("zip_archive", b"PK\x03\x04" + bytes(60)),
    "gzip archive": ("unsupported_format", b"\x1f\x8b\x08" + bytes(60)),
    "picture": ("unsupported_format", b"\x89PNG\r\n\x1a\n" + bytes(60)),
    "reserved but never written": ("bad_header", bytes(4096)),
    "header longer than the file": ("truncated", struct.pack("<Q", 5000) + b"{}"),
    "header of 2^63": ("header_length_overflow", struct.pack("<Q", 1 << 63) + b"{}"),
    "header over the cap": ("header_too_large", struct.pack("<Q", HEADER_CAP + 1) + b"{}"),
    "half-downloaded": ("truncated", WELL[:-1]),
    "trailing bytes": ("trailing_bytes", WELL + b"\0"),
    "not JSON": ("bad_json", packed(b'{"a": [1, 2')),
    "NUL padding": ("bad_json", packed(json.dumps(ONE).encode() + b"\0\0")),
    "byte order mark": ("bad_json", packed(b"\xef\xbb\xbf" + json.dumps(ONE).encode())),
    "not UTF-8": ("not_utf8", packed(b'{"\xff\xfe": 1}')),
    "a list": ("bad_header", packed(b"[1, 2, 3]")),
    "deep nesting": ("bad_json", packed(b"[" * 100_000)),
    "shape that is nested five hundred deep": (
        "bad_shape",
        packed(b'{"a":{"dtype":"U8","shape":[%b],"data_offsets":[0,0]}}' % NEST),
    ),
    "a name twice, and something nested five hundred deep": (
        "duplicate_names",
        packed(
            b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":%b},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
            % NEST
        ),
    ),
    "deeper than the interpreter goes": (
        "bad_json",
        packed(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":%b}}' % (b"[" * 1010 + b"]" * 1010)),
    ),
    "a field that nobody knows, 126 brackets deep": ("bad_json", packed(entry(extra=deep(126)))),
    "shape of a million sizes": (
        "shape_overflow",
        packed({"a": {"dtype": "U8", "shape": [1 << 62] * 1_000_000, "data_offsets": [0, 8]}}),
    ),
    "size over 2^63 in half bytes": (
        "size_mismatch",
        packed(entry(dtype="F4", shape=[(1 << 64) - 1], data_offsets=[0, 4])),
    ),
    "metadata that is no table of strings": ("bad_metadata", packed({"__metadata__": {"n": 1}, **ONE})),
    "metadata that is a tensor": ("bad_metadata", packed({"__metadata__": ONE["a"]})),
    "metadata that is a tensor beside one": (
        "bad_metadata",
        packed({"a": ONE["a"], "__metadata__": {**ONE["a"], "data_offsets": [12, 24]}}, bytes(24)),
    ),
    "a tensor that is called as metadata is": (
        "duplicate_names",
        packed(b'{"__metadata__":{"format":"pt"},"__metadata__":%b}' % ENTRY),
    ),
    "metadata that is a list": ("bad_metadata", packed({"__metadata__": [], **ONE})),
    "entry that is a number": ("bad_header", packed({"a": 7})),
    "entry without shape": ("bad_header", packed({"a": {"dtype": "F16", "data_offsets": [0, 12]}})),
    "unknown dtype": ("unknown_dtype", packed(entry(dtype="F12"))),
    "dtype that is a list": ("unknown_dtype", packed(entry(dtype=["F16"]))),
    "negative shape": ("bad_shape", packed(entry(shape=[-2, -3]))),
    "fractional shape": ("bad_shape", packed(entry(shape=[2.0, 3]))),
    "boolean in a shape": ("bad_shape", packed(entry(shape=[True, 6]))),
    "shape that is a string": ("bad_shape", packed(entry(shape="23"))),
    "overflowing shape": ("shape_overflow", packed(entry(shape=[1 << 40, 1 << 40]))),
    "one dimension over 2^63": ("shape_overflow", packed(entry(shape=[1 << 63, 0], data_offsets=[0, 0]), b"")),
    "offsets beyond the file": ("truncated", packed(entry(shape=[6000], data_offsets=[0, 12_000]))),
    "backward offsets": ("bad_offsets", packed(entry(data_offsets=[12, 0]))),
    "negative offset": ("bad_offsets", packed(entry(data_offsets=[-12, 0]))),
    "three offsets": ("bad_offsets", packed(entry(data_offsets=[0, 12, 24]))),
    "fractional offset": ("bad_offsets", packed(entry(data_offsets=[0.0, 12]))),
    "offset over 2^63": ("bad_offsets", packed(entry(data_offsets=[0, 1 << 63]))),
    "size that is not the shape's": ("size_mismatch", packed(entry(data_offsets=[0, 10]), bytes(10))),
    "bits that fill no byte": (
        "size_mismatch",
        packed({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}, bytes(2)),
    ),
    "tar archive": ("archive", b"./".ljust(257, b"\0") + b"ustar" + bytes(250)),
    "header of metadata": (
        "too_many_tensors",
        packed(b'{"__metadata__":{' + b",".join(b'"%x":""' % n for n in range(7 * TENSOR_CAP + 1)) + b"}}", b""),
    ),
    "overlapping tensors": ("overlapping_tensors", packed(two([0, 8], [4, 12]))),
    "hole between tensors": ("hole_in_data", packed(two([0, 4], [8, 12]))),
    "hole before the first": ("hole_in_data", packed({"a": {"dtype": "U8", "shape": [8], "data_offsets": [4, 12]}})),
    **{
        what: ("bad_json", packed(text % ENTRY))
        for what, text in {
            "comma before the first entry": b'{,"a":%b}',
            "comma and blanks before the first entry": b'{ , "a":%b}',
            "no comma after the metadata": b'{"__metadata__":{"format":"pt"}"a":%b}',
            "two commas after the metadata": b'{"__metadata__":{"format":"pt"},,"a":%b}',
            "a blank that is none in JSON": b'{\x0b"a":%b}',
            "such a blank after the metadata": b'{"__metadata__":{"format":"pt"},\x0c"a":%b}',
        }.items()
    },
    "a name twice": ("duplicate_names", packed(b'{"a":%b,"a":%b}' % ((json.dumps(ONE["a"]).encode(),) * 2))),
    "a name twice, each with bytes of its own": (
        "duplicate_names",
        packed(b'{"a":%b,"a":%b}' % (ENTRY, ENTRY.replace(b"[0, 12]", b"[12, 24]")), bytes(24)),
    ),
    "a dtype twice, the last of another size": (
        "duplicate_names",
        packed(b'{"a":{"dtype":"F16","dtype":"F32","shape":[2,3],"data_offsets":[0,12]}}'),
    ),
    **{
        f"{what} twice": ("duplicate_names", packed(text % ((ENTRY,) * text.count(b"%b"))))
        for what, text in {
            "a name, once escaped": rb'{"\u0061":%b,"a":%b}',
            "a dtype": b'{"a":{"dtype":"F32","dtype":"F16","shape":[2,3],"data_offsets":[0,12]}}',
            "a dtype, once escaped": rb'{"a":{"\u0064type":"F32","dtype":"F16","shape":[2,3],"data_offsets":[0,12]}}',
            "a shape": b'{"a":{"dtype":"F16","shape":[6],"shape":[2,3],"data_offsets":[0,12]}}',
            "the offsets": b'{"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,6],"data_offsets":[0,12]}}',
            "metadata": b'{"__metadata__":{"format":"pt"},"a":%b,"__metadata__":{"format":"np"}}',
            "metadata in one place": b'{"__metadata__":{"format":"pt"},"__metadata__":{"format":"np"},"a":%b}',
            "metadata, then empty": b'{"__metadata__":{"format":"pt"},"a":%b,"__metadata__":{}}',
            "metadata, then null": b'{"__metadata__":{"format":"pt"},"a":%b,"__metadata__":null}',
            "metadata, then escaped and empty": rb'{"__metadata__":{"format":"pt"},"a":%b,"\u005f_metadata__":{}}',
            "a key of the metadata": b'{"__metadata__":{"format":"pt","format":"np"},"a":%b}',
            "a key of metadata that stands last": b'{"a":%b,"__metadata__":{"format":"pt","format":"np"}}',
            "a key of metadata that names the tensor": b'{"__metadata__":{"a":"x","b":"y","b":"z"},"a":%b}',
            "a field that nobody knows": b'{"a":{"x":1,"x":2,"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}}',
        }.items()
    },
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_its_own_code(case: str, tmp_path: Path) -> None:
    code, data = REFUSED[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(UnreadableModel) as caught:
        read_header(path)
    assert caught.value.code == code
    message = str(caught.value)
    assert message[0].isupper() or message[0] == "`" or message[0].isdigit()
    assert message.endswith((".", "?"))


@pytest.mark.parametrize("spaces", [(",", ":"), (", ", ": ")])
def test_files_of_the_same_tensors_keep_their_own_metadata_and_size(spaces: tuple[str, str]) -> None:
    """The tensors' part of a header is read once; what stands before it and the file's size are looked at each time."""
    for title in ("one", "another", None):
        document = {"__metadata__": {"title": title}, **ONE} if title else ONE
        data = packed(json.dumps(document, separators=spaces).encode())
        header = parse_header(data, len(data))
        assert header.metadata == ({"title": title} if title else {})
        assert dict(header.tensors) == {"a": TensorSpec("F16", (2, 3))}
        with pytest.raises(UnreadableModel) as caught:
            parse_header(data, len(data) - 1)
        assert caught.value.code == "truncated"


def test_metadata_may_hold_what_looks_like_a_tensor() -> None:
    said = {"a": "x", "note": json.dumps(ONE)}
    for document in ({"__metadata__": said, **ONE}, {**ONE, "__metadata__": said}):
        header = parse_header(packed(document), None)
        assert (header.metadata, list(header.tensors)) == (said, ["a"])


def test_more_tensors_than_any_model_has_are_refused_before_they_are_parsed() -> None:
    one = b'"%07d":{"dtype":"U8","shape":[],"data_offsets":[0,0]},'
    text = b"{" + b"".join(one % i for i in range(TENSOR_CAP + 1))[:-1] + b"}"
    with pytest.raises(UnreadableModel, match="more than 250,000 tensors"):
        parse_header(struct.pack("<Q", len(text)) + text, None)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path, code in ((tmp_path / "gone.safetensors", "not_found"), (tmp_path, "is_a_folder")):
        with pytest.raises(UnreadableModel) as caught:
            read_header(path)
        assert caught.value.code == code


@pytest.mark.parametrize(
    "document",
    [
        {"__metadata__": None, **ONE},
        {"__metadata__": {"format": "pt"}, **ONE},
        entry(extra="field"),
        b"  " + json.dumps(ONE).encode(),
        {"data_offsets": ONE["a"]},
        entry(extra=deep(125)),
        {"__metadata__": {"tags": "[[[{"}, "[[[": ONE["a"]},
    ],
    ids=[
        "null metadata",
        "metadata",
        "extra field",
        "leading spaces",
        "tensor called data_offsets",
        "as deep as it goes",
        "brackets in texts",
    ],
)
def test_odd_headers_that_the_reference_reader_takes(document: Any) -> None:
    header = parse_header(packed(document), len(packed(document)))
    assert [spec.shape for spec in header.tensors.values()] == [(2, 3)]


def test_names_in_any_order_are_taken() -> None:
    document = two([4, 12], [0, 4])
    assert set(parse_header(packed(document), len(packed(document))).tensors) == {"a", "b"}


def test_empty_tensors_and_scalars() -> None:
    document = {
        "v_pred": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},
        "alpha": {"dtype": "F16", "shape": [], "data_offsets": [0, 2]},
    }
    header = parse_header(packed(document, bytes(2)), None)
    assert header.tensors["alpha"].shape == ()
    assert header.tensors["v_pred"].shape == (0,)
    assert parse_header(packed({}, b""), 10).tensors == {}


def test_remote_prefix_tells_how_much_is_missing() -> None:
    with pytest.raises(HeaderIncomplete) as caught:
        parse_header(WELL[:20], len(WELL))
    assert caught.value.needed == len(WELL) - 12
    with pytest.raises(HeaderIncomplete) as caught:
        parse_header(WELL[:5], len(WELL))
    assert caught.value.needed == 8
    assert parse_header(WELL[: len(WELL) - 12], len(WELL)) == parse_header(WELL, len(WELL))


def test_header_longer_than_the_first_read(tmp_path: Path) -> None:
    tensors = {f"block.{i:06d}": ("F16", (2, 3)) for i in range(5000)}
    header = read_header(headers.write_sparse(tmp_path / "long.safetensors", tensors, {"format": "pt"}))
    assert len(header.tensors) == 5000
    assert header.size == header.header_bytes + 5000 * 12
    assert header.metadata == {"format": "pt"}


def test_what_is_given_is_told_in_bits_where_bytes_would_look_alike() -> None:
    with pytest.raises(UnreadableModel, match="needs 12 bits but is given 2 bytes"):
        parse_header(packed({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}, bytes(2)), None)


@pytest.mark.parametrize("length", [0x21003C, 0xFEFF, 0x71007D, 0x717D, 0x2F2E, 0x6C28])
def test_lengths_that_look_like_text_are_lengths(length: int) -> None:
    """UTF-16, a pickle's first opcodes, a tar archive's first name: with a header behind them they are none."""
    text = json.dumps(ONE).encode().ljust(length)
    assert list(parse_header(struct.pack("<Q", length) + text + bytes(12), 8 + length + 12).tensors) == ["a"]
