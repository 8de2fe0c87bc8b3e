"""What other programs leave beside a model file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.cards import Card, parse_card
from registry.models import Digest
from registry.recommended import statements, triggers
from registry.sidecars import KINDS, read_beside

CIVITAI = {
    "name": "v2",
    "baseModel": "SD 1.5",
    "trainedWords": ["outline", "ink, thin"],
    "model": {"name": "Outline", "type": "LORA"},
    "creator": {"username": "ada"},
    "images": [{"url": "https://image.example/1.png"}],
    "files": [{"name": "outline.safetensors", "hashes": {"SHA256": "AB" * 32, "AutoV1": "00"}}],
}


def said(folder: Path, **records: Any) -> tuple[dict[str, list[tuple[Any, str]]], list[tuple[str, str]]]:
    """Statements by name, in order, and triggers; `records` are by the ending, _ for the dot."""
    for ending, record in records.items():
        text = record if isinstance(record, str) else json.dumps(record)
        (folder / f"x.{ending.replace('_', '.')}").write_text(text)
    found = read_beside(folder / "x.safetensors")
    by_name: dict[str, list[tuple[Any, str]]] = {}
    for statement in statements({}, Card(), found):
        by_name.setdefault(statement.name, []).append((statement.value, statement.by))
    return by_name, [(t.word, t.by) for t in triggers({}, Card(), found)]


def test_automatic1111(tmp_path: Path) -> None:
    record = {"preferred weight": 0.7, "activation text": "ink, thin", "sd version": "SD1", "description": "Lines."}
    found, words = said(tmp_path, json=record)
    by = "A1111 sidecar"
    assert found == {"weight": [(0.7, by)], "description": [("Lines.", by)], "base_model": [("SD1", by)]}
    assert words == [("ink", by), ("thin", by)]


def test_a_folder_has_its_own_and_not_a_neighbours(tmp_path: Path) -> None:
    (tmp_path / "anything-v3.0").mkdir()
    for name, text in (("anything-v3.json", "another"), ("anything-v3.0.json", "its own")):
        (tmp_path / name).write_text(json.dumps({"description": text}))
    (tmp_path / "anything-v3.png").touch()
    [found] = read_beside(tmp_path / "anything-v3.0")
    assert [s.value for s in found.statements] == ["its own"]


def test_a_weight_of_zero_is_none(tmp_path: Path) -> None:
    assert said(tmp_path, json={"preferred weight": 0, "sd version": "Unknown"}) == ({}, [])


def test_lora_manager_keeps_its_tips_as_text(tmp_path: Path) -> None:
    tips = json.dumps({"strength_min": 0.4, "strength_max": 0.8})
    (tmp_path / "x.metadata.json").write_text(json.dumps({"usage_tips": tips, "sha256": "cd" * 32, "civitai": CIVITAI}))
    [record] = read_beside(tmp_path / "x.safetensors")
    weight = record.statements[0]
    assert (weight.value, weight.minimum, weight.maximum) == (0.6, 0.4, 0.8)
    assert record.claims == (Digest("sha256", "cd" * 32, "LoRA Manager sidecar"),)
    assert [t.word for t in record.triggers] == ["outline", "ink", "thin"]


def test_civitai_helper(tmp_path: Path) -> None:
    found, words = said(tmp_path, civitai_info=CIVITAI)
    assert {name: values[0][0] for name, values in found.items()} == {
        "title": "Outline",
        "version": "v2",
        "base_model": "SD 1.5",
        "author": "ada",
        "preview": "https://image.example/1.png",
    }
    assert words == [(w, "Civitai sidecar") for w in ("outline", "ink", "thin")]
    [record] = read_beside(tmp_path / "x.safetensors")
    assert set(record.claims) == {
        Digest("sha256", "ab" * 32, "Civitai sidecar"),
        Digest("autov1", "00", "Civitai sidecar"),
    }


def test_a_picture_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.preview.png").write_bytes(b"")
    assert said(tmp_path)[0] == {"preview": [(str(tmp_path / "x.preview.png"), "file beside it")]}


def test_the_order(tmp_path: Path) -> None:
    """The A1111 user's own weight, then LoRA Manager's, the header's, the card's; a base model is the card's before a family's name."""
    (tmp_path / "x.json").write_text(json.dumps({"preferred weight": 0.5, "sd version": "SD1"}))
    (tmp_path / "x.metadata.json").write_text(json.dumps({"usage_tips": '{"strength": 0.6}'}))
    card = parse_card("---\nbase_model: a/b\nlicense: mit\n---\nUse a weight of 0.8.")
    made = statements({"modelspec.lora_default_weight": "0.7"}, card, read_beside(tmp_path / "x.safetensors"))
    assert [s.value for s in made if s.name == "weight"] == [0.5, 0.6, 0.7, 0.8]
    assert [s.value for s in made if s.name == "base_model"] == ["a/b", "SD1"]
    assert [(s.value, s.by) for s in made if s.name == "license"] == [("mit", "model card")]


def test_the_headers_own_words_recommend_as_a_cards_do() -> None:
    hint = {"modelspec.usage_hint": "Best at a weight of 0.6-0.9.", "modelspec.description": "A style. Use 25 steps."}
    weight, steps = statements(hint, parse_card("Recommended weight: 0.3"))[:2]
    assert (weight.value, weight.minimum, weight.maximum, weight.by) == (0.75, 0.6, 0.9, "file header")
    assert (steps.name, steps.value, steps.by) == ("steps", 25, "file header")


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "[" * 100_000, '{"preferred weight": {"a": 1}}', "\x00"])
@pytest.mark.parametrize("ending", [ending for ending, _, _ in KINDS])
def test_a_record_that_says_nothing(tmp_path: Path, ending: str, text: str) -> None:
    (tmp_path / f"x{ending}").write_text(text)
    assert statements({}, Card(), read_beside(tmp_path / "x.safetensors")) == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
KEYS = st.sampled_from(
    [
        *CIVITAI,
        "preferred weight",
        "activation text",
        "usage_tips",
        "sha256",
        "civitai",
        "Hashes",
        "TrainedWords",
        "ModelName",
    ]
)


@given(st.dictionaries(KEYS, JSON))
def test_nothing_that_a_record_holds_is_an_error(record: dict[str, Any]) -> None:
    for _, by, understand in KINDS:
        understand(record, by)
