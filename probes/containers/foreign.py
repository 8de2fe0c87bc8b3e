"""Files that are no model to read here, known by their first bytes: what each is, and so what to do instead (REMEDIES)."""

from __future__ import annotations

import re
from typing import NamedTuple

from probes.header import UnreadableModel


class _Format(NamedTuple):
    """`begins`: a regular expression over the first bytes."""

    code: str
    what: str
    begins: bytes


_ARCHIVE, _COMPILED, _OTHER = "archive", "compiled_model", "unsupported_format"
_VARINT = rb"[\x80-\xff]{0,4}[\x00-\x7f]"
_FORMATS = (
    _Format(_OTHER, "a gzip archive, not a model", rb"\x1f\x8b"),  # a header dump, where it is one
    _Format(_ARCHIVE, "a 7-Zip archive, not a model", rb"7z\xbc\xaf\x27\x1c"),
    _Format(_ARCHIVE, "a RAR archive, not a model", rb"Rar!"),
    _Format(_ARCHIVE, "a bzip2 archive, not a model", rb"BZh"),
    _Format(_ARCHIVE, "an xz archive, not a model", rb"\xfd7zXZ"),
    _Format(_ARCHIVE, "a Zstandard archive, not a model", rb"\x28\xb5\x2f\xfd"),
    _Format(_OTHER, "an empty zip archive, not a model", rb"PK\x05\x06"),
    _Format(_OTHER, "a PNG picture, not a model", rb"\x89PNG"),
    _Format(_OTHER, "a JPEG picture, not a model", rb"\xff\xd8\xff"),
    _Format(_OTHER, "a WebP picture or other RIFF file, not a model", rb"RIFF"),
    _Format(_OTHER, "an MP4 video, not a model", rb".{4}ftyp"),
    _Format(_OTHER, "a PDF document, not a model", rb"%PDF"),
    _Format(_OTHER, "a NumPy array, not a model", rb"\x93NUMPY"),
    _Format(_OTHER, "an HDF5 file, in which Keras keeps weights", rb"\x89HDF"),
    _Format(_OTHER, "a msgpack file, in which Flax keeps weights", rb"(?:[\x81-\x8f]|\xde..)(?:[\xa4-\xbf]|\xd9.)[\w./ -]{4}"),
    _Format(_OTHER, "a GGML file, GGUF's predecessor", rb"GGML|lmgg|tjgg|fmgg"),
    _Format(_COMPILED, "a TensorRT engine", rb"ftrt|..\x00\x00\{\""),  # Ultralytics puts a JSON before it, by its length
    _Format(_COMPILED, "a TensorFlow Lite model", rb".{4}TFL3"),
    _Format(_COMPILED, "a model of onnxruntime's own format", rb".{4}ORTM"),
    # protocol buffers: the first fields of each, by their numbers and sorts
    _Format(_COMPILED, "an ONNX graph", rb"\x08[\x03-\x0f](?:\x12[\x01-\x7f][ -~]|\x3a[\x80-\xff]{1,4}[\x00-\x7f]\n)"),
    _Format(_COMPILED, "a TensorFlow SavedModel or Core ML model", rb"\x08[\x01-\x0f]\x12" + _VARINT + rb"\n"),
    _Format(_COMPILED, "a TensorFlow graph", rb"\n[\x80-\xff]?[\x00-\x7f]\n[\x01-\x7f][\w./>-]{1,127}\x12[\x01-\x7f][A-Z]\w"),
)  # fmt: skip
_ANY = re.compile(b"|".join(b"(%b)" % each.begins for each in _FORMATS), re.DOTALL)

_ZIPPED = (
    # by the name of the first file in it
    _Format(_COMPILED, "a TorchScript program", rb"[^/]+/(?:data/\d+|code/__torch__.*|constants\.pkl)"),
    _Format(
        _COMPILED, "a program that torch.export saved", rb"[^/]+/data/(?:weights|constants)/.*|.*\.pt2|archive_format"
    ),
    _Format(_OTHER, "a NumPy archive, not a model", rb".*\.npy"),
)
_ZIP_NAME = 26, 30
"""Where the first file's entry has the length of its name, and the name."""


def refuse_foreign(prefix: bytes | bytearray) -> None:
    """Raises UnreadableModel where the bytes begin a file of one of these formats."""
    if found := _match(prefix):
        _refuse(_FORMATS[(found.lastindex or 1) - 1])


def refuse_zipped(prefix: bytes | bytearray) -> None:
    """Raises UnreadableModel where the bytes begin a zip archive of one of these formats."""
    at, name = _ZIP_NAME
    first = prefix[name : name + int.from_bytes(prefix[at : at + 2], "little")]
    for each in _ZIPPED:
        if re.fullmatch(each.begins, first, re.DOTALL):
            _refuse(each)


def is_foreign(prefix: bytes | bytearray) -> bool:
    return _match(prefix) is not None


def _match(prefix: bytes | bytearray) -> re.Match[bytes] | None:
    """None, too, where a length below 4 GB and a brace begin a safetensors file, whatever the length's own bytes are."""
    return None if prefix[4:9] == b"\0\0\0\0{" else _ANY.match(prefix)


def _refuse(found: _Format) -> None:
    raise UnreadableModel(found.code, f"This is {found.what}.")
