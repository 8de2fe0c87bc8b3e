"""Real headers, damaged in every way that can be thought of: an answer or UnreadableModel, in bounded memory, and what is
believed is what the reference reader believes."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from probes import HeaderIncomplete, Outcome, UnreadableModel, parse_header, probe
from probes.containers.safetensors import BITS, HEADER_CAP, QUOTE_CAP, TENSOR_CAP, TOKEN_CAP
from probes.names import forget
from tests.probes import headers
from tests.probes.test_gguf import gguf, text, whole
from tests.probes.test_properties import JSON, answer

MANY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
BASES = ("unet-sd-1-miniature-diffusers", "lora-sdxl-slider", "lora-sd-1-miniature-kohya", "vae-diffusers")
STRICTER = {"duplicate_names", "bad_json"}
"""What is refused although the reference reader takes it: names that stand twice, and (`bad_json`) such names in a header
that nests too deep to look for them."""


@dataclass(repr=False)
class Draft:
    """A safetensors file before it is written: entries may share names, and values may be anything. `nested` is put in
    place of NEST as it is; `changes` is how hypothesis shows it."""

    entries: list[tuple[str, Any]]
    metadata: Any
    data: int
    nested: str = "[]"
    changes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Draft({', '.join(self.changes):.9000}, metadata={self.metadata!r:.500})"  # hypothesis warns at 30,000

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Hypothesis would else print a dataclass field by field, and warn of its length in place of telling what failed."""
        printer.text(repr(self))

    def bytes(self) -> bytes:
        pairs = [("__metadata__", self.metadata), *self.entries]
        document = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs)
        body = ("{" + document + "}").replace(f'"{NEST}"', self.nested).encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(body)) + body


NEST = "@nest@"


def draft(base: str) -> Draft:
    fixture = headers.load(base)
    head = headers.safetensors_bytes(fixture.tensors)
    document = json.loads(head[8:])
    return Draft(list(document.items()), {"format": "pt"}, headers.data_size(fixture.tensors), changes=[base])


NAMES = st.text(max_size=20) | st.sampled_from(
    ["", ".", "a.b.weight", "lora_unet_x.alpha", "x\ny", "__metadata__", "\x00"]
)
NUMBERS = st.integers(-(1 << 64), 1 << 64) | st.sampled_from([0, 1, 2, 8, True, 1.0, None, "2", [2], 1 << 63])
NESTED = (st.integers(0, 1500) | st.integers(120, 130)).map(lambda depth: "[" * depth + "]" * depth)


@st.composite
def drafts(pick: st.DrawFn) -> Draft:
    """A real header after one to four changes."""
    made = draft(pick(st.sampled_from(BASES)))
    for _ in range(pick(st.integers(1, 4))):
        at = pick(st.integers(0, len(made.entries) - 1)) if made.entries else 0
        if not made.entries:
            break
        name, entry = made.entries[at]
        entry = dict(entry) if isinstance(entry, dict) else {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
        change = pick(st.sampled_from(CHANGES))
        match change:
            case "rename":
                made.entries[at] = (pick(NAMES), entry)
            case "drop":
                del made.entries[at]
            case "drop the last":
                made.entries.pop()
            case "double":
                made.entries.insert(pick(st.integers(0, len(made.entries))), (name, entry))
            case "copy":
                made.entries.append((pick(NAMES), entry))
            case "swap":
                other = pick(st.integers(0, len(made.entries) - 1))
                made.entries[at], made.entries[other] = made.entries[other], made.entries[at]
            case "reshape":
                made.entries[at] = (name, {**entry, "shape": pick(st.lists(NUMBERS, max_size=5) | JSON)})
            case "transpose":
                shape = entry.get("shape")
                made.entries[at] = (name, {**entry, "shape": shape[::-1] if isinstance(shape, list) else shape})
            case "retype":
                made.entries[at] = (name, {**entry, "dtype": pick(st.sampled_from([*BITS]) | JSON)})
            case "move":
                made.entries[at] = (name, {**entry, "data_offsets": pick(st.lists(NUMBERS, max_size=3) | JSON)})
            case "shift":
                by = pick(st.integers(-64, 64))
                span = entry.get("data_offsets")
                span = [n + by if isinstance(n, int) else n for n in span] if isinstance(span, list) else span
                made.entries[at] = (name, {**entry, "data_offsets": span})
            case "field":
                made.entries[at] = (name, {**entry, pick(st.sampled_from([*entry, "extra"])): pick(JSON)})
            case "nest":
                made.entries[at] = (name, {**entry, pick(st.sampled_from([*entry, "extra"])): NEST})
                made.nested = pick(NESTED)
            case "value":
                made.entries[at] = (name, pick(JSON))
            case "metadata":
                made.metadata = pick(JSON | st.dictionaries(st.text(max_size=5), JSON, max_size=3) | st.just(NEST))
                made.nested = pick(NESTED)
        now = made.entries[at] if at < len(made.entries) else None
        made.changes.append(f"{change} {name!r} -> {now!r:.200}")
    return made


CHANGES = [
    "rename", "drop", "drop the last", "double", "copy", "swap", "reshape", "transpose", "retype", "move", "shift", "field",
    "nest", "value", "metadata",
]  # fmt: skip


def reference(data: bytes, size: int) -> set[str] | None:
    """The names that the reference reader finds in a file of these first bytes and this size; None where it refuses it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        path.write_bytes(data)
        with path.open("r+b") as file:
            file.truncate(size)
        try:
            with safe_open(path, framework="numpy") as opened:
                return set(opened.keys())
        except SafetensorError:
            return None


@MANY
@given(drafts(), st.integers(-40, 40) | st.just(0))
def test_what_is_believed_is_what_the_reference_reader_believes(made: Draft, wrong: int) -> None:
    data = made.bytes()
    size = max(len(data) + made.data + wrong, len(data))
    known = reference(data, size)
    ours, code = None, ""
    try:
        header = parse_header(data, size)
        ours = set(header.tensors)
        assert probe(header).reason
    except UnreadableModel as refused:
        code = refused.code
    assert ours == known or code in STRICTER, code


@MANY
@given(drafts())
def test_memory_is_bounded_by_the_header(made: Draft) -> None:
    """A tensor that is named in a letter takes some hundred bytes."""
    data = made.bytes()
    answer(data, len(data) + made.data)
    forget()  # what is made for all files stays, what was made for this one does not
    tracemalloc.start()
    try:
        answer(data, len(data) + made.data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(data) + 2_000_000


@MANY
@given(drafts(), st.floats(0, 1), st.binary(min_size=1, max_size=6))
def test_damaged_once_more_in_the_bytes(made: Draft, where: float, junk: bytes) -> None:
    data = bytearray(made.bytes())
    at = int(where * (len(data) - 1))
    data[at : at + len(junk)] = junk
    answer(bytes(data), len(data) + made.data)


SLIDER = headers.load("lora-sdxl-slider")
SLIDER_HEAD = headers.safetensors_bytes(SLIDER.tensors, SLIDER.metadata)
GGUF_TENSORS = {f"double_blocks.{i}.img_attn.qkv.weight": (96, 32) for i in range(3)}
GGUF_HEAD = gguf(GGUF_TENSORS, text("general.architecture") + struct.pack("<I", 8) + text("flux"), 1)
HEADS = {
    "safetensors": (SLIDER_HEAD, len(SLIDER_HEAD) + headers.data_size(SLIDER.tensors)),
    "gguf": (GGUF_HEAD, whole(GGUF_HEAD, GGUF_TENSORS)),
}


@pytest.mark.parametrize("container", HEADS)
def test_cut_anywhere_in_the_header(container: str) -> None:
    """A file that ends there is refused; first bytes that end there ask for more."""
    head, size = HEADS[container]
    for length in range(1, len(head)):
        with pytest.raises(UnreadableModel):
            parse_header(head[:length], length)
        with pytest.raises(HeaderIncomplete) as caught:
            parse_header(head[:length], size)
        assert length < caught.value.needed <= size


@pytest.mark.parametrize("container", HEADS)
def test_cut_after_any_tensor(container: str) -> None:
    head, size = HEADS[container]
    assert parse_header(head, size).tensors
    step = max(1, (size - len(head)) // 200)
    for length in range(len(head), size, step):
        if container == "gguf" and length > size - 32:  # the last tensor's padding need not be there
            continue
        with pytest.raises(UnreadableModel) as caught:
            parse_header(head, length)
        assert caught.value.code == "truncated"


@MANY
@given(st.integers(0, len(GGUF_HEAD) - 1), st.binary(min_size=1, max_size=8), st.integers(0, 1 << 40) | st.none())
def test_damaged_gguf(at: int, junk: bytes, size: int | None) -> None:
    data = GGUF_HEAD[:at] + junk + GGUF_HEAD[at + len(junk) :]
    answer(data, None if size is None else max(size, len(data)))


@MANY
@given(st.binary(max_size=200), st.sampled_from([b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x8a\x0al"]), st.booleans())
def test_any_pickle_or_archive(data: bytes, magic: bytes, named: bool) -> None:
    data = magic + data + (b"archive/data.pkl" if named else b"")
    assert answer(data, len(data)) != Outcome.IDENTIFIED


def crowded(fill: str) -> bytes:
    """The dearest headers that pass the caps, by what they are full of."""
    count = TOKEN_CAP - 20
    match fill:
        case "metadata":
            body = b'{"__metadata__":{' + b",".join(b'"%x":""' % i for i in range(QUOTE_CAP // 4 - 1)) + b"}}"
        case "metadata that hides quotation marks":
            body = b'{"__metadata__":{' + b",".join(b'"%x":"\\\\"' % i for i in range(QUOTE_CAP // 3 - 1)) + b"}}"
        case "names of no tensors":
            body = b"{" + b",".join(b'"%07d":1' % i for i in range(QUOTE_CAP // 2 - 1)) + b"}"
        case "texts":
            body = b'{"a":[' + b",".join(b'"%07d"' % i for i in range(QUOTE_CAP // 2 - 1)) + b"]}"
        case "lists":
            body = b'{"a":[' + b"[]," * (count // 2) + b"0]}"
        case "one text":
            body = b'{"__metadata__":{"a":"' + b"x" * (HEADER_CAP - 100) + b'"}}'
        case _:
            entry = b'"unet.down.%07d.to_q.lora_A.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[%d,%d]}'
            body = b"{" + b",".join(entry % (i, i, i + 1) for i in range(TENSOR_CAP)) + b"}"
    return struct.pack("<Q", len(body)) + body


CHILD = """
import resource, sys
from probes import UnreadableModel, parse_header, probe
data = open(sys.argv[1], "rb").read()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
try:
    probe(parse_header(data, None))
except UnreadableModel:
    pass
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "fill",
    [
        "metadata",
        "metadata that hides quotation marks",
        "names of no tensors",
        "texts",
        "lists",
        "one text",
        "tensors of an adapter without its halves",
    ],
)
def test_resident_memory_is_a_few_times_the_cap(fill: str, tmp_path: Path) -> None:
    path = tmp_path / "header"
    path.write_bytes(crowded(fill))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert int(done.stdout) < 7 * HEADER_CAP
