"""/v1/images/generations and /v1/models, spoken to by openai from PyPI."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import openai
import pytest
from PIL import Image
from sd_parsers import ParserManager

pytestmark = pytest.mark.slow

CIRCLE: dict[str, Any] = {"prompt": "a red circle on a white background", "size": "64x64"}
FAST = {"seed": 7, "steps": 4}


@pytest.fixture(scope="module")
def client(service: httpx.Client) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.base_url}/v1", api_key="none is needed", max_retries=0)


def picture(text: str | None) -> Image.Image:
    assert text is not None
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_models(client: openai.OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert models.keys() == {"starter-base", "starter-outline-lora", "starter-heart", "starter-lcm-lora"}
    one = models["starter-base"]
    assert (one.object, one.created > 10**9, one.owned_by) == ("model", True, "")
    assert client.models.retrieve("starter-base").created == one.created


def test_pictures_in_base64(client: openai.OpenAI) -> None:
    made = client.images.generate(**CIRCLE, model="starter-base", n=2, extra_body=FAST)
    assert made.data is not None
    assert (made.size, made.output_format, len(made.data)) == ("64x64", "png", 2)
    seeds = [ParserManager().parse(picture(one.b64_json)).samplers[0].parameters["seed"] for one in made.data]  # type: ignore[union-attr]
    assert seeds == ["7", "8"]


def test_pictures_by_an_address_that_needs_nothing_else(client: openai.OpenAI) -> None:
    made = client.images.generate(**CIRCLE, response_format="url", output_format="jpeg", extra_body=FAST)
    assert made.data is not None
    url = made.data[0].url
    assert url is not None
    answer = httpx.get(url, trust_env=False)
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (64, 64)
    forged = httpx.get(url[:-3] + "xyz", trust_env=False)
    assert (forged.status_code, forged.json()["code"]) == (404, "picture_not_found")


def test_several_loras_with_their_weights(client: openai.OpenAI) -> None:
    prompt = f"{CIRCLE['prompt']} <lora:starter-heart:0.3>"
    loras = [{"model": "starter-outline-lora", "weight": 0.6}, {"model": "starter-lcm-lora"}]
    made = client.images.generate(**{**CIRCLE, "prompt": prompt}, extra_body={"loras": loras, "seed": 7})
    assert made.data is not None
    assert made.data[0].revised_prompt == CIRCLE["prompt"]
    read = ParserManager().parse(picture(made.data[0].b64_json))
    assert read is not None
    assert read.samplers[0].prompts[0].value == (
        f"{CIRCLE['prompt']} <lora:starter-outline-lora:0.6> <lora:starter-lcm-lora:1> <lora:starter-heart:0.3>"
    )
    assert read.samplers[0].name == "LCM"  # which the LCM-LoRA recommends, and nobody asked otherwise


def test_partial_pictures_are_streamed(client: openai.OpenAI) -> None:
    stream = client.images.generate(**CIRCLE, stream=True, partial_images=2, extra_body={"seed": 7, "steps": 30})
    events = list(stream)
    *partial, last = events
    assert [event.type for event in partial] == ["image_generation.partial_image"] * len(partial)
    assert [event.partial_image_index for event in partial] == list(range(len(partial)))  # type: ignore[union-attr]
    assert 1 <= len(partial) <= 2
    assert picture(partial[0].b64_json).width > 0
    assert last.type == "image_generation.completed"
    assert picture(last.b64_json).size == (64, 64)
    assert last.usage.total_tokens == 0


@pytest.mark.parametrize(
    ("asked", "error", "code", "param"),
    [
        ({"model": "nothing"}, openai.NotFoundError, "model_not_found", None),
        ({"size": "large"}, openai.UnprocessableEntityError, "invalid_request", "size"),
        ({"n": 0}, openai.UnprocessableEntityError, "invalid_request", "n"),
        ({"background": "transparent"}, openai.UnprocessableEntityError, "invalid_request", "background"),
        ({"extra_body": {"lora": []}}, openai.UnprocessableEntityError, "invalid_request", "lora"),
        ({"stream": True, "extra_body": {"steps": 999}}, openai.UnprocessableEntityError, "invalid_request", "steps"),
    ],
)
def test_errors(
    client: openai.OpenAI, asked: dict[str, Any], error: type[openai.APIStatusError], code: str, param: str | None
) -> None:
    with pytest.raises(error) as raised:
        client.images.generate(**{**CIRCLE, **asked})
    assert (raised.value.code, raised.value.param, raised.value.type) == (code, param, "invalid_request_error")
