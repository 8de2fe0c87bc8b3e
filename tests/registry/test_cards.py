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
        ("Set the LoRA weight to 0.6, the denoising strength to 0.4.", 0.6, (None, None)),
        ("Recommended: 0.8 strength", 0.8, (None, None)),
        ("Best at 0.7 weight.", 0.7, (None, None)),
        ("0.6-0.9 weight works best", 0.75, (0.6, 0.9)),
        ("Weight (0.6-0.9)", 0.75, (0.6, 0.9)),
        ("LoRA weight: 0,8", 0.8, (None, None)),
        ("strength of .8", 0.8, (None, None)),
        ("Set the LoRA strength anywhere from 0.5 up to 1.0", 0.75, (0.5, 1.0)),
        ("Use it as <lora:ink:0.8>", 0.8, (None, None)),
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
        "Recommended: CFG scale 1.5",
        "Use a CFG scale between 1 and 2",
        "Denoising strength: 0.5",
        "Best with a denoising of 0.5 strength: low",
        "The first picture has <lora:ink:0.3>",
        "Best trained with 0.01 weight decay",
        "Set the ControlNet weight to 0.5",
        "IP-Adapter scale 0.6, ControlNet conditioning scale 0.7",
        "",
    ],
)
def test_numbers_that_are_no_recommendation_are_left_alone(prose: str) -> None:
    assert "weight" not in recommendations(parse_card(card(prose)))


@pytest.mark.parametrize(
    ("prose", "name", "value", "bounds"),
    [
        ("Use a guidance scale of 1.5 and 4 steps.", "cfg", 1.5, (None, None)),
        ("Use a guidance scale of 1.5 and 4 steps.", "steps", 4, (None, None)),
        ("Recommended: CFG scale 1.5", "cfg", 1.5, (None, None)),
        ("Use a CFG scale between 1 and 2", "cfg", 1.5, (1.0, 2.0)),
        ("Use between 4 and 8 steps, guidance_scale=7.5", "steps", 6, (4.0, 8.0)),
        ("Use between 4 and 8 steps, guidance_scale=7.5", "cfg", 7.5, (None, None)),
    ],
)
def test_a_number_belongs_to_the_whole_noun_before_it(
    prose: str, name: str, value: float, bounds: tuple[float | None, float | None]
) -> None:
    said = recommendations(parse_card(card(prose)))
    assert "weight" not in said
    assert (said[name].value, (said[name].minimum, said[name].maximum)) == (value, bounds)


def test_brackets_of_more_than_numbers_are_another_statement() -> None:
    assert recommendations(parse_card(card("Use 4 steps without guidance (8 score best)."))).keys() == {"steps"}


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
    "front", ["base_model: [", "- just\n- a list", "base_model: {a: 1}\ninstance_prompt: [3]", "instance_prompt: null"]
)
def test_a_broken_front_matter_says_nothing(front: str) -> None:
    parsed = parse_card(card("Recommended weight: 0.8.", front))
    assert (parsed.base_model, parsed.trigger) == (None, None)
    assert recommendations(parsed)["weight"].value == 0.8


_BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])


@pytest.mark.parametrize(
    "front",
    [
        _BOMB,
        "a: &a {b: c}\n<<: [*a, *a]",
        "base_model: " + "[" * 5000,
        "base_model: a/b\npad: " + "x" * 65536,
        "{[a]: 1}: 2",
    ],
    ids=["aliases", "merge", "nesting", "length", "keys"],
)
def test_a_hostile_front_matter_costs_nothing_and_says_nothing(front: str) -> None:
    parsed = parse_card(card("Recommended weight: 0.8.", front))
    assert parsed.front == {}
    assert recommendations(parsed)["weight"].value == 0.8


@pytest.mark.parametrize("value", ["2024-13-45", "!!timestamp x", "!!bool x", "!!int x", "9" * 9999, "1:" * 2000 + "1"])
def test_no_value_of_a_front_matter_is_made_into_anything(value: str) -> None:
    assert parse_card(card("x", f"base_model: a/b\nd: {value}")).base_model == "a/b"


@given(st.text())
def test_no_card_breaks_the_reader(text: str) -> None:
    recommendations(parse_card(text))
