"""LoRAs named in a prompt."""

from __future__ import annotations

import pytest

from registry.errors import InvalidRequest
from registry.plans import AdapterRequest, GenerationRequest
from registry.prompts import emphasis, with_tags_read


def read(prompt: str, **more: object) -> tuple[str, tuple[AdapterRequest, ...]]:
    request = with_tags_read(GenerationRequest("base", prompt, **more))  # type: ignore[arg-type]
    return request.prompt, request.loras


@pytest.mark.parametrize(
    ("prompt", "left", "lora"),
    [
        ("a cat <lora:ink:0.8>", "a cat", AdapterRequest("ink", 0.8)),
        ("<lora:ink:0.8> a cat", "a cat", AdapterRequest("ink", 0.8)),
        ("a <lora:ink:-0.5>, cat", "a, cat", AdapterRequest("ink", -0.5)),
        ("a cat<lora:ink v1.5:1>", "a cat", AdapterRequest("ink v1.5", 1.0)),
        ("a cat <lora:ink>", "a cat", AdapterRequest("ink", 1.0)),
        ("a cat <lora:ink:0.5:0.8>", "a cat", AdapterRequest("ink", 0.8, 0.5)),
        ("a cat <lora:ink:0.5:0.5>", "a cat", AdapterRequest("ink", 0.5)),
        ("a cat <lyco:ink:0.5>", "a cat", AdapterRequest("ink", 0.5)),
    ],
)
def test_a_tag(prompt: str, left: str, lora: AdapterRequest) -> None:
    assert read(prompt) == (left, (lora,))


def test_several_come_after_those_of_the_request() -> None:
    asked = (AdapterRequest("first", 0.1),)
    prompt, loras = read("a <lora:second:1> cat <lora:third:1>", loras=asked)
    assert (prompt, [lora.model for lora in loras]) == ("a cat", ["first", "second", "third"])


@pytest.mark.parametrize("prompt", ["  a cat ", "a < b and <lora> or <lora:>", "<3:1>"])
def test_what_is_no_tag_is_left_as_it_is(prompt: str) -> None:
    assert read(prompt) == (prompt, ())


def test_a_hypernetwork_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="<hypernet:x:1>: hypernetworks"):
        read("a cat <hypernet:x:1>")


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("a (red:1.3) cat", "(red:1.3)"),
        ("a [red|blue] cat", "[red|blue]"),
        ("a [red:blue:0.5] cat", "[red:blue:0.5]"),
        ("a (red) cat, 16:9 [sic] <lora:ink:1>", None),
    ],
)
def test_weighted_and_changing_words(prompt: str, found: str | None) -> None:
    assert emphasis(prompt) == found


@pytest.mark.parametrize("tag", ["<lora:ink:much>", "<lora:ink:>", "<lora:ink:1:2:3>"])
def test_weights_that_are_none(tag: str) -> None:
    with pytest.raises(InvalidRequest, match="weight"):
        read(f"a cat {tag}")
