"""Whatever the bytes: an answer or UnreadableModel, and no family for a header whose tensors the file does not hold."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from probes import (
    Header,
    HeaderIncomplete,
    Hints,
    TensorSpec,
    UnreadableModel,
    dump_header,
    explain,
    pack_dump,
    parse_dump,
    parse_header,
    probe,
    sentence,
)
from tests.probes import headers

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
BASES = ["unet-sd-1-miniature-diffusers", "lora-sdxl-slider", "unet-sd-1-miniature-ldm", "lora-sd-1-miniature-kohya"]
WHOLE = {name: headers.safetensors_bytes(headers.load(name).tensors, {"format": "pt"}) for name in BASES}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": JSON | st.sampled_from(["F16", "F32", "U8"]),
        "shape": JSON,
        "data_offsets": JSON,
        "extra": JSON,
    },
)


def answer(data: bytes, size: int | None) -> str:
    """Outcome of a probe, or the code of its refusal."""
    try:
        return probe(parse_header(data, size)).outcome.value
    except UnreadableModel as refused:
        code, message, needed = refused.code, str(refused), len(data) + 1
    except HeaderIncomplete as incomplete:
        code, message, needed = "incomplete", str(incomplete), incomplete.needed
    assert code
    assert message
    assert needed > len(data)
    return code


@QUICK
@given(st.binary(max_size=4096), st.integers(0, 1 << 40) | st.none())
def test_any_bytes(data: bytes, size: int | None) -> None:
    answer(data, max(size, len(data)) if size is not None else None)


@QUICK
@given(st.dictionaries(st.text(max_size=12), ENTRIES | JSON, max_size=6))
def test_any_json(document: dict[str, Any]) -> None:
    text = json.dumps(document).encode()
    answer(struct.pack("<Q", len(text)) + text, None)


@QUICK
@given(st.sampled_from(BASES), st.integers(0, 1 << 30), st.binary(min_size=1, max_size=8))
def test_damaged_headers(base: str, at: int, junk: bytes) -> None:
    data = bytearray(WHOLE[base])
    at %= len(data)
    data[at : at + len(junk)] = junk
    answer(bytes(data), len(data) + headers.data_size(headers.load(base).tensors))


@QUICK
@given(st.sampled_from(BASES), st.integers(-(1 << 20), 1 << 20).filter(bool))
def test_no_family_for_a_file_of_the_wrong_size(base: str, wrong: int) -> None:
    data = WHOLE[base]
    size = len(data) + headers.data_size(headers.load(base).tensors) + wrong
    assert answer(data, max(size, len(data))) in {"truncated", "trailing_bytes"}


@QUICK
@given(st.sampled_from(BASES), st.data())
def test_any_shapes_and_any_subset(base: str, data: st.DataObject) -> None:
    """Tensors taken away, reshaped and renamed: always an answer with a reason, and the fixture's own family or none."""
    fixture = headers.load(base)
    names = list(fixture.tensors)
    changed = data.draw(st.lists(st.sampled_from(names), max_size=5, unique=True))
    tensors = {name: TensorSpec(dtype, shape) for name, (dtype, shape) in fixture.tensors.items()}
    for name in changed:
        action = data.draw(st.sampled_from(["drop", "reshape", "rename"]))
        spec = tensors.pop(name)
        if action == "reshape":
            tensors[name] = TensorSpec("F16", tuple(data.draw(st.lists(st.integers(0, 1 << 40), max_size=5))))
        elif action == "rename":
            tensors[data.draw(st.text(min_size=1, max_size=30))] = spec
    report = probe(Header(tensors))
    assert report.reason
    assert report.family in (fixture.expect["family"], None)
    explanation = explain(Header(tensors))
    assert explanation.report == report
    assert all(sentence(refuted.evidence) for like in explanation.near for refuted in like.refuted)
    dumped = parse_dump(pack_dump(dump_header(Header(tensors), report=report)))
    assert dumped is not None
    assert probe(*dumped) == report


@example(Hints(card={"base_model": 5, "tags": {"lcm": 1}}, sidecar={"baseModel": None}), {})
@QUICK
@given(
    st.builds(
        Hints,
        repo_id=st.none() | st.text(max_size=20),
        filename=st.none() | st.text(max_size=20),
        card=st.none() | st.dictionaries(st.sampled_from(["tags", "base_model", "license"]), JSON, max_size=3),
        card_text=st.none() | st.text(max_size=50),
        sidecar=st.none() | st.dictionaries(st.sampled_from(["sd version", "baseModel"]), JSON, max_size=2),
    ),
    st.dictionaries(
        st.sampled_from(["ss_v2", "modelspec.architecture", "modelspec.prediction_type", "ss_base_model_version"]),
        st.text(max_size=12),
    ),
)
def test_any_hints_and_metadata(hints: Hints, metadata: dict[str, str]) -> None:
    """What people write beside a file is never trusted to have a type, and never changes a family that shapes decide."""
    header = headers.load("lora-sdxl-slider").header
    header = Header(header.tensors, metadata)
    report = probe(header, hints)
    assert report.family in ("sdxl", None)
    for keep_private in (False, True):
        dumped = parse_dump(pack_dump(dump_header(header, hints, report, keep_private=keep_private)))
        assert dumped is not None
        assert explain(*dumped).report.family == report.family


@QUICK
@given(st.binary(max_size=200), st.sampled_from([2, 3]))
def test_any_gguf(data: bytes, version: int) -> None:
    answer(b"GGUF" + struct.pack("<I", version) + data, 8 + len(data))


@pytest.mark.parametrize("name", headers.names())
def test_the_order_of_tensors_has_no_part_in_an_answer(name: str) -> None:
    """Not even in its examples: a file that is saved again must not read as another."""
    header = headers.load(name).header
    items = list(header.tensors.items())
    random.Random(name).shuffle(items)
    assert probe(replace(header, tensors=dict(items))) == probe(header)
