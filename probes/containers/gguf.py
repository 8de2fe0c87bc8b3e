"""The GGUF container (versions 2 and 3): key-value pairs, then one record per tensor.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Strings and counts are u64 little-endian; dimensions
stand innermost first and are turned around here. Arrays (tokenizer vocabularies) are skipped, not kept.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

from probes.header import Header, HeaderIncomplete, TensorSpec, UnreadableModel

MAGIC = b"GGUF"
TENSOR_CAP = 250_000
PAIR_CAP = 100_000
HEADER_CAP = 100_000_000
"""As for safetensors: headers of published files stay under 20 MB, vocabularies included."""
STRING_CAP = 2_000_000
"""Most strings in all arrays together; the largest published vocabularies have 300,000."""
DIMENSIONS = 8
"""Most of a tensor; ggml itself has four."""
STEP = 64 * 1024
"""How much further to read, at least, when a header, whose length GGUF does not state, goes past the bytes at hand."""
FIRST_SHAPE = "comfy.gguf.orig_shape."
"""Before a tensor's name: the shape it had before city96's converter (ComfyUI-GGUF) laid it out in rows of 256, outermost first."""
ALIGNMENT = 32
"""Of tensor data, where `general.alignment` states no other."""

_TYPES = {
    # id: (name, elements in a block, bytes of a block), as in ggml's type_traits and gguf-py's GGML_QUANT_SIZES
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_WHOLE = frozenset({4, 5, 10, 11})
_STRING, _ARRAY = 8, 9


class _Cursor:
    """Reads little-endian values forward; raises HeaderIncomplete at the end of the bytes at hand."""

    def __init__(self, data: bytes | bytearray, size: int | None) -> None:
        self.data, self.size, self.at, self.strings = data, size, 0, 0

    def take(self, count: int) -> bytes | bytearray:
        end = self.at + count
        if end > HEADER_CAP:
            raise UnreadableModel(
                "header_too_large", f"The GGUF header is longer than {HEADER_CAP:,} bytes, or a length in it is forged."
            )
        if self.size is not None and end > self.size:
            raise UnreadableModel("truncated", "The file ends inside its GGUF header.")
        if end > len(self.data):
            # Twice as far each time: what has been read is parsed again.
            further = end + max(STEP, len(self.data))
            raise HeaderIncomplete(further if self.size is None else min(further, self.size))
        chunk = self.data[self.at : end]
        self.at = end
        return chunk

    def number(self, code: str) -> int:
        return int(struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0])

    def string(self) -> str:
        try:
            return self.take(self.number("Q")).decode()
        except UnicodeDecodeError:
            raise UnreadableModel(
                "not_utf8", "A name in the GGUF header is not UTF-8 text: the file is damaged."
            ) from None

    def value(self) -> str | None:
        """The next value as text; None for arrays."""
        kind = self.number("I")
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            self._skip_array()
            return None
        return str(struct.unpack("<" + self._scalar(kind), self.take(struct.calcsize("<" + self._scalar(kind))))[0])

    def shape(self) -> tuple[int, ...]:
        """The next value, an array of whole numbers."""
        kind, scalar, count = self.number("I"), self.number("I"), self.number("Q")
        if kind != _ARRAY or scalar not in _WHOLE or count > DIMENSIONS:
            raise UnreadableModel(
                "bad_header", "A GGUF header states a tensor's first shape by other than its dimensions."
            )
        return tuple([self.number(_SCALARS[scalar]) for _ in range(count)])

    def _skip_array(self) -> None:
        kind, count = self.number("I"), self.number("Q")
        if kind == _STRING:
            self.strings += count
            if self.strings > STRING_CAP:
                raise UnreadableModel(
                    "header_too_large", f"The GGUF header claims lists of more than {STRING_CAP:,} texts."
                )
            for _ in range(count):
                self.take(self.number("Q"))
        else:
            self.take(count * struct.calcsize("<" + self._scalar(kind)))

    def _scalar(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise UnreadableModel(
                "bad_header",
                f"A GGUF value has the unknown type {kind}: the file is damaged or newer than this reader.",
            )
        return _SCALARS[kind]


def parse_gguf(prefix: bytes | bytearray, size: int | None) -> Header:
    """Reads a GGUF header; raises HeaderIncomplete or UnreadableModel."""
    cursor = _Cursor(prefix, size)
    cursor.take(4)
    version = cursor.number("I")
    if version and version & 0xFFFF == 0:
        raise UnreadableModel("unsupported_format", "This GGUF file was written for big-endian machines.")
    if version not in (2, 3):
        raise UnreadableModel(
            "unsupported_format",
            f"GGUF version {version} is not known here (2 and 3 are).",
        )
    tensor_count, pair_count = cursor.number("Q"), cursor.number("Q")
    if tensor_count > TENSOR_CAP or pair_count > PAIR_CAP:
        raise UnreadableModel(
            "too_many_tensors",
            f"The GGUF header claims {tensor_count:,} tensors and {pair_count:,} values. It was not read.",
        )
    metadata: dict[str, str] = {}
    first: dict[str, tuple[int, ...]] = {}
    keys: set[str] = set()
    for count in range(pair_count):
        keys.add(key := cursor.string())
        if len(keys) == count:
            raise UnreadableModel(
                "duplicate_names", "The GGUF header states a value twice: readers disagree on which one counts."
            )
        if key.startswith(FIRST_SHAPE):
            first[key.removeprefix(FIRST_SHAPE)] = cursor.shape()
        elif (value := cursor.value()) is not None:
            metadata[key] = value
    tensors = _tensors(cursor, tensor_count)
    _check_extents(tensors, _alignment(metadata), cursor)
    specs = {name: _restored(spec, first.get(name, spec.shape)) for name, (spec, _, _) in tensors.items()}
    return Header(specs, metadata, "gguf", size, cursor.at)


def _restored(spec: TensorSpec, first: tuple[int, ...]) -> TensorSpec:
    if min(first, default=1) < 0 or math.prod(first) != math.prod(spec.shape):
        raise UnreadableModel("bad_shape", "A GGUF tensor has another size than the shape that it is said to have had.")
    return TensorSpec(spec.dtype, first)


def _tensors(cursor: _Cursor, count: int) -> Mapping[str, tuple[TensorSpec, int, int]]:
    """Name -> spec, offset into the data and bytes."""
    tensors: dict[str, tuple[TensorSpec, int, int]] = {}
    for _ in range(count):
        name = cursor.string()
        dimensions = cursor.number("I")
        if dimensions > DIMENSIONS:
            raise UnreadableModel("bad_shape", f"A GGUF tensor has {dimensions} dimensions: the file is damaged.")
        shape = tuple(reversed([cursor.number("Q") for _ in range(dimensions)]))
        kind, offset = cursor.number("I"), cursor.number("Q")
        if kind not in _TYPES:
            raise UnreadableModel(
                "unknown_dtype",
                f"A GGUF tensor has the unknown type {kind}: the file is newer than this reader, or damaged.",
            )
        if math.prod(shape) >= 1 << 63:
            raise UnreadableModel("shape_overflow", "A GGUF tensor would have more elements than any file can hold.")
        if name in tensors:
            raise UnreadableModel(
                "duplicate_names", "The GGUF header names a tensor twice: readers disagree on which one counts."
            )
        dtype, block, block_bytes = _TYPES[kind]
        if (shape[-1] if shape else 1) % block:
            raise UnreadableModel(
                "size_mismatch", f"A GGUF tensor of type {dtype} has rows that are no multiple of {block} long."
            )
        tensors[name] = TensorSpec(dtype, shape), offset, math.prod(shape) // block * block_bytes
    return tensors


def _alignment(metadata: Mapping[str, str]) -> int:
    stated = metadata.get("general.alignment", str(ALIGNMENT))
    alignment = int(stated) if stated.isascii() and stated.isdecimal() and len(stated) <= 10 else 0
    if not 0 < alignment < 1 << 32 or alignment & (alignment - 1):
        raise UnreadableModel("bad_header", "The GGUF header states an alignment that is no power of two.")
    return alignment


def _check_extents(tensors: Mapping[str, tuple[TensorSpec, int, int]], alignment: int, cursor: _Cursor) -> None:
    """No tensor shares bytes with another, and the file holds them all."""
    end = 0
    for offset, length in sorted((offset, length) for _, offset, length in tensors.values()):
        if offset % alignment:
            raise UnreadableModel("bad_offsets", "A GGUF tensor does not lie where its alignment puts it.")
        if offset < end:
            raise UnreadableModel(
                "overlapping_tensors", "Two GGUF tensors share bytes: the header is forged or damaged."
            )
        end = offset + length
    start = -(-cursor.at // alignment) * alignment
    if tensors and cursor.size is not None and start + end > cursor.size:
        raise UnreadableModel(
            "truncated",
            f"The file has {cursor.size:,} of the {start + end:,} bytes that its header announces.",
        )
