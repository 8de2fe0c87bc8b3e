"""What a model card recommends, read from its front matter and its prose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.cards import parse_card, recommendations


def card(prose: str, front: str = "tags: [lora]") -> str:
    return f"---\n{front}\n---\n{prose}\n"


@pytest.mark.parametrize(
    ("prose", "value", "bounds"),
    [
        ("Recommended weight: 0.8.", 0.8, (None, None)),
        ("Use it with a weight of 0.7", 0.7, (None, None)),
        ("**Strength** 0.6-0.9 works well.", 0.75, (0.6, 0.9)),
        ("I suggest a strength between 0.4 and 0.6.", 0.5, (0.4, 0.6)),
        ("LoRA scale around 1.0", 1.0, (None, None)),
        ("Best at weights 0.75 to 1.", 0.875, (0.75, 1.0)),
    ],
)
def test_weight_is_read_from_prose(prose: str, value: float, bounds: tuple[float | None, float | None]) -> None:
    found = recommendations(parse_card(card(prose)))["weight"]
    assert found.value == pytest.approx(value)
    assert (found.minimum, found.maximum) == bounds
    assert found.quote
    assert found.quote in prose


@pytest.mark.parametrize(
    "prose",
    [
        "The weights were trained for 10 epochs.",
        "Weight decay 0.01 was used in training.",
        "It weighs 144 MB.",
        "A weight of 30 kilograms.",
        "```python\npipe.set_adapters(['a'], adapter_weights=[0.8])\nweight: 0.3\n```",
        "strength 80%",
        "weight of 0",
        "weight 0.9-0.2",
        "",
    ],
)
def test_numbers_that_are_no_recommendation_are_left_alone(prose: str) -> None:
    assert "weight" not in recommendations(parse_card(card(prose)))


def test_sampler_values_need_a_sentence_that_recommends() -> None:
    said = recommendations(parse_card(card("Recommended: LCM scheduler, 4 to 8 steps, CFG 1.")))
    assert (said["scheduler"].value, said["steps"].value, said["cfg"].value) == ("lcm", 6, 1.0)
    assert recommendations(parse_card(card("It was trained for 120 steps."))) == {}


def test_the_first_statement_wins() -> None:
    assert (
        recommendations(parse_card(card("Recommended weight: 0.8.\nWith LCM a weight of 0.4.")))["weight"].value == 0.8
    )


def test_front_matter() -> None:
    parsed = parse_card(card("x", "base_model: [a/b, c/d]\ninstance_prompt: ' heart '"))
    assert (parsed.base_model, parsed.trigger) == ("a/b", "heart")


@pytest.mark.parametrize(
    "front", ["base_model: [", "- just\n- a list", "base_model: {a: 1}\ninstance_prompt: 3", "instance_prompt: null"]
)
def test_a_broken_front_matter_says_nothing(front: str) -> None:
    parsed = parse_card(card("Recommended weight: 0.8.", front))
    assert (parsed.base_model, parsed.trigger) == (None, None)
    assert recommendations(parsed)["weight"].value == 0.8


@given(st.text())
def test_no_card_breaks_the_reader(text: str) -> None:
    recommendations(parse_card(text))
