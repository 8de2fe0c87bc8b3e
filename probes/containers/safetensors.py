"""The safetensors container: eight bytes of length, that much JSON, then the tensors without gaps.

Every check of the reference reader (safetensors 0.8.0, `safetensors/src/tensor.rs`) is made here, from the header and
the file size alone, and each failure has its own code. Duplicate names are refused although that reader keeps the last
of them: the specification forbids them, and two readers may disagree on which one counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from reprlib import Repr
from typing import Any, NamedTuple, NoReturn

import msgspec

from probes import json_text
from probes.header import Entry, Header, HeaderIncomplete, TensorTable, UnreadableModel
from probes.names import kept

HEADER_CAP = 100_000_000
"""Longest header in bytes; the reference reader's MAX_HEADER_SIZE."""
TENSOR_CAP = 250_000
"""Most tensors in one file. The largest published ones (mixture-of-experts language models) have under 100,000 over all
shards; a 100 MB header could name two million, whose parsed form takes gigabytes."""
TOKEN_CAP = 12 * TENSOR_CAP
"""Most brackets and commas in a header: bounds the objects that parsing can make, whatever the JSON says, and with them
the memory, to about six times the header's cap. A tensor of five dimensions has eleven."""
QUOTE_CAP = 14 * TENSOR_CAP
"""Most quotation marks in a header, those within texts aside: bounds the strings in the same way. A tensor has ten, an entry of the
metadata four; so there may be as many of the one as of the other. A text that ends in a backslash hides one of its own."""
DEPTH_CAP = 127
"""Brackets within brackets that the reference reader follows (serde_json's recursion limit); ours goes on to the interpreter's."""

BITS: Mapping[str, int] = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
"""Bits per element of every dtype that safetensors 0.8.0 names."""

_BITS_CAP = 8 << 63
"""A tensor of so many bits takes more bytes than a file can have."""


def length_of(prefix: bytes | bytearray, size: int | None) -> int:
    """The JSON's length in bytes, from the first eight; checked against the cap and, where known, the file's size."""
    length = int.from_bytes(prefix[:8], "little")
    if length >= 1 << 63:
        raise UnreadableModel(
            "header_length_overflow",
            f"The first eight bytes claim a header of {length} bytes, which no file can have: this is not a "
            "safetensors file, or its "
            "beginning is damaged.",
        )
    if length > HEADER_CAP:
        raise UnreadableModel(
            "header_too_large",
            f"The file claims a header of {length:,} bytes; safetensors allows {HEADER_CAP:,}. "
            "It is another kind of file, or damaged.",
        )
    if length < 2:
        raise UnreadableModel(
            "bad_header",
            "The file starts with zeros instead of a header, as a download does that reserved its space and never "
            "finished.",
        )
    if size is not None and 8 + length > size:
        raise UnreadableModel(
            "truncated",
            f"The file ends inside its header ({size:,} bytes of at least {8 + length:,}).",
        )
    return length


def parse_safetensors(prefix: bytes | bytearray, size: int | None) -> Header:
    """Reads and checks a header. `prefix`: the file's first bytes; `size`: the whole file's bytes, or None when
    unknown.

    Raises HeaderIncomplete when `prefix` is too short, UnreadableModel when the header cannot be believed.
    """
    length = length_of(prefix, size)
    if len(prefix) < 8 + length:
        raise HeaderIncomplete(8 + length)
    tensors, metadata, end = _in_parts(prefix, 8, 8 + length) or _read(prefix, 8, 8 + length)
    if size is not None and size != 8 + length + end:
        _refuse_size(size, 8 + length + end)
    return Header(tensors, metadata or {}, "safetensors", size, 8 + length)


class _Read(NamedTuple):
    """What a header's text says; `metadata`: None where the text does not name any; `end`: where the last tensor's bytes do."""

    tensors: TensorTable
    metadata: Mapping[str, str] | None
    end: int


def _read(text: bytes | bytearray, start: int, end: int) -> _Read:
    """Any header; says of one that is wrong what is wrong with it."""
    document = _decode(text, start, end)
    metadata = _metadata(document.pop("__metadata__")) if "__metadata__" in document else None
    data_end = _check_tensors(document)
    _refuse_duplicates(text[start:end])
    tensors = {
        name: Entry(raw["dtype"], tuple(raw["shape"]), tuple(raw["data_offsets"])) for name, raw in document.items()
    }
    return _Read(TensorTable(tensors), metadata, data_end)


_LONGEST = TOKEN_CAP
"""Longest header that is read in parts, in bytes: one that cannot name too much."""
_REMEMBERED = 1 << 19
"""Longest tensors' part of one that is remembered; the largest LoRAs' have 410,000 bytes."""
_BLANK = b" \t\n\r"
"""What JSON takes for blank: fewer bytes than Python does."""
_FIRST_TENSOR = re.compile(rb'"\s*:\s*\{\s*"dtype"')
_TENSORS = msgspec.json.Decoder(dict[str, Entry])
_QUOTES = 10
"""Quotation marks of a tensor: around its name, three keys and its dtype."""


def _in_parts(text: bytes | bytearray, start: int, end: int) -> _Read | None:
    """Metadata and tensors read by themselves, where metadata stands first, as current writers put it; None where it stands
    elsewhere, the header is long, or anything is wrong with it."""
    first = _FIRST_TENSOR.search(text, start, end) if end - start <= _LONGEST else None
    if first is None:
        return None
    at = text.rfind(b'"', start, first.start())  # the name's first quotation mark, or one that is escaped: then no JSON
    head = bytes(text[start:at]).strip(_BLANK)
    entries = head.removesuffix(b",").rstrip(_BLANK)
    if (entries == head) != (entries == b"{"):  # a comma stands after an entry, and nowhere else
        return None
    try:
        before = _read(entries + b"}", 0, len(entries) + 1)
    except UnreadableModel:  # with places in a part of the text
        return None
    tensors = (_sound if end - at > _REMEMBERED else _sound_before)(b"{" + memoryview(text)[at:end])
    return None if before.tensors or tensors is None else tensors._replace(metadata=before.metadata)


def _sound(text: bytes) -> _Read | None:
    """Nothing but tensors, all sound, and in the order of their bytes, as every current writer puts them; None where a look
    at each has to say what is wrong."""
    try:
        entries = _TENSORS.decode(text)
    except ValueError:
        return None
    end = _gapless_end(entries)
    # As many quotation marks as the entries need, and no escapes: then no name stands twice, at any depth. Nor is one the metadata's.
    if end is None or text.count(b'"') != _QUOTES * len(entries) or b"\\" in text or "__metadata__" in entries:
        return None
    return _Read(TensorTable(entries), None, end)


_sound_before = kept(16)(_sound)
"""LoRAs that one trainer made with one setting have the same tensors to the letter, and differ in their metadata. About 2 MB
each for the largest LoRAs."""


def _gapless_end(entries: Mapping[str, Entry]) -> int | None:
    """Where the last tensor ends, if each begins where the one before it ends and takes what its shape needs."""
    at, bits = 0, BITS
    for entry in entries.values():
        start, end = entry.data_offsets
        needed = bits.get(entry.dtype, 0)
        if start != at or not needed:
            return None
        for size in entry.shape:
            needed *= size
            if size < 0 or needed >= _BITS_CAP:  # at once: the product of a million sizes would take hours
                return None
        if 8 * (end - start) != needed:
            return None
        at = end
    return at if 8 * at < _BITS_CAP else None


def names_too_much(text: bytes | bytearray, start: int, end: int) -> bool:
    """Whether JSON text has more in it than a header of TENSOR_CAP tensors; nothing is made to learn that."""
    # What is shorter than the cap cannot pass it.
    return end - start > TOKEN_CAP and (
        sum(text.count(token, start, end) for token in (b"[", b"{", b",")) > TOKEN_CAP
        or text.count(b'"dtype"', start, end) > TENSOR_CAP
        or text.count(b'"', start, end) - text.count(b'\\"', start, end) > QUOTE_CAP
    )


def _decode(text: bytes | bytearray, start: int, end: int) -> dict[str, Any]:
    """`text` from `start` to `end`, not copied."""
    if names_too_much(text, start, end):
        raise UnreadableModel(
            "too_many_tensors",
            f"The header names more than {TENSOR_CAP:,} tensors, nests as much or has as much metadata; no published model "
            "does. It was not read.",
        )
    try:
        document = json_text.loads(memoryview(text)[start:end])
    except ValueError as error:
        try:
            text[start:end].decode()
        except UnicodeDecodeError as bad:
            raise UnreadableModel(
                "not_utf8",
                f"The header is not UTF-8 text (byte {start + bad.start} of the file): the file is damaged.",
            ) from error
        raise UnreadableModel(
            "bad_json", f"The header is not JSON ({error}): another kind of file, or damaged."
        ) from error
    if not isinstance(document, dict) or text[start] not in b"{ \t\n\r":
        raise UnreadableModel(
            "bad_header", "The header is JSON but not a table of tensors: this is not a safetensors file."
        )
    return document


def _metadata(raw: Any) -> Mapping[str, str]:
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise UnreadableModel(
            "bad_metadata",
            "`__metadata__` must map names to strings, and does not.",
        )
    return raw


def _check_tensors(document: Mapping[str, Any]) -> int:
    """Checks dtypes, shapes and offsets; returns the bytes that the tensors take."""
    for name, raw in document.items():
        _check_tensor(name, raw)
    return _check_gapless(document)


def _check_gapless(document: Mapping[str, Any]) -> int:
    expected = 0
    for start, end, name in sorted((*raw["data_offsets"], name) for name, raw in document.items()):
        if start < expected:
            raise UnreadableModel(
                "overlapping_tensors",
                f"Tensor {_short(name)} shares bytes with another one: the header is forged or damaged.",
            )
        if start > expected:
            raise UnreadableModel(
                "hole_in_data",
                f"{start - expected:,} bytes before tensor {_short(name)} belong to none: the header is forged or "
                "damaged.",
            )
        expected = end
    return expected


def _check_tensor(name: str, raw: Any) -> None:
    """Says what is wrong with one tensor's entry, if anything is."""
    where = f"Tensor {_short(name)}"
    if not isinstance(raw, dict) or not {"dtype", "shape", "data_offsets"} <= raw.keys():
        raise UnreadableModel(
            "bad_header",
            f"{where} lacks dtype, shape or data_offsets: this is not a safetensors file, or it is damaged.",
        )
    if len(raw) != 3:
        _refuse_depth(where, raw)
    dtype, shape, span = raw["dtype"], raw["shape"], raw["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise UnreadableModel(
            "unknown_dtype",
            f"{where} has dtype {_short(dtype)}, which safetensors 0.8 does not know. A newer writer may have made "
            "the file.",
        )
    if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
        raise UnreadableModel(
            "bad_shape", f"{where} has shape {_short(shape)}; a shape is a list of whole numbers from 0."
        )
    needed = _needed(dtype, shape)
    if needed >= _BITS_CAP:
        raise UnreadableModel(
            "shape_overflow", f"{where} would have more elements than any file can hold (shape {_short(shape)})."
        )
    if (
        not isinstance(span, list)
        or len(span) != 2
        or any(type(n) is not int or not 0 <= n < 1 << 63 for n in span)
        or span[1] < span[0]
    ):
        raise UnreadableModel(
            "bad_offsets",
            f"{where} has data_offsets {_short(span)}; they are two byte positions, the first not after the second.",
        )
    if 8 * (span[1] - span[0]) != needed:
        raise UnreadableModel(
            "size_mismatch",
            f"{where} ({dtype}, shape {_short(shape)}) needs {_amount(needed)} but is given {_amount(8 * (span[1] - span[0]))}.",
        )


def _amount(bits: int) -> str:
    return f"{bits:,} bits" if bits % 8 else f"{bits // 8:,} bytes"


def _needed(dtype: str, shape: list[int]) -> int:
    """Bits; from _BITS_CAP on no more than that it is too much, whatever sizes follow."""
    bits = BITS[dtype]
    for size in shape:
        bits *= size
        if bits >= _BITS_CAP:
            break
    return bits


def _refuse_depth(where: str, value: Any) -> None:
    """Raises when values stand too deep in one another: only fields that nobody knows can hold such."""
    level, depth = [value], 2  # an entry, in the header
    while level := [inner for outer in level for inner in _inside(outer) if isinstance(inner, (dict, list))]:
        depth += 1
        if depth > DEPTH_CAP:
            raise UnreadableModel(
                "bad_json", f"{where} is nested deeper than {DEPTH_CAP} brackets: the header is forged or damaged."
            )


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _refuse_duplicates(text: bytes | bytearray) -> None:
    """Raises when a name stands twice among the names of one pair of braces."""

    def pairs(items: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in items:
            if name in seen:
                raise UnreadableModel(
                    "duplicate_names", f"The header names {_short(name)} twice: readers disagree on which one counts."
                )
            seen.add(name)

    try:
        json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise UnreadableModel(
            "bad_json", "The header is nested deeper than any model's: it is forged or damaged."
        ) from None


def _refuse_size(size: int, expected: int) -> NoReturn:
    if size < expected:
        raise UnreadableModel(
            "truncated",
            f"The file has {size:,} of the {expected:,} bytes that its header announces.",
        )
    raise UnreadableModel(
        "trailing_bytes",
        f"{size - expected:,} bytes follow the last tensor: the file is damaged or carries something else.",
    )


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def _short(value: Any) -> str:
    """At most some hundred characters of whatever JSON holds, at any depth."""
    return _SHORT.repr(value)
