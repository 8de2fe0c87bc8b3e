"""The text that a picture carries."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from PIL import Image
from sd_parsers import ParserManager

from registry.errors import InvalidRequest
from registry.pictures import Format, encode_png, infotext, open_picture, transcode
from registry.plans import Origin, Plan, PlannedAdapter, Sourced


def asked(value: object) -> Sourced:  # type: ignore[type-arg]
    return Sourced(value, Origin.REQUESTED, "request")


PLAN = Plan(
    checkpoint="1",
    checkpoint_name="base",
    family="sd-1",
    adapters=(
        PlannedAdapter("2", "outline", "lora", asked(0.8), ()),
        PlannedAdapter("3", "fast, really", "lcm_lora", asked(1.0), ()),
    ),
    prompt="a red circle",
    negative_prompt="blue",
    scheduler=asked("lcm"),
    steps=asked(4),
    cfg=asked(1.0),
    seed=asked(5),
    width=asked(64),
    height=asked(48),
    n=2,
)
HASHES = {"base": "0123456789abcdef", "outline": "fedcba9876543210", "fast, really": "aa" * 32}


def test_infotext_is_the_one_that_webui_readers_know() -> None:
    assert infotext(PLAN, 6, HASHES).splitlines() == [
        "a red circle <lora:outline:0.8> <lora:fast, really:1>",
        "Negative prompt: blue",
        "Steps: 4, Sampler: LCM, CFG scale: 1, Seed: 6, Size: 64x48, Model hash: 0123456789, Model: base, "
        'Lora hashes: "outline: fedcba987654, fast, really: aaaaaaaaaaaa", Version: modelshelf, '
        'Hashes: {"model": "0123456789", "lora:outline": "fedcba987654", "lora:fast, really": "aaaaaaaaaaaa"}',
    ]


def test_a_text_encoder_s_own_weight_stands_first_as_webui_has_it() -> None:
    one = replace(PLAN, adapters=(replace(PLAN.adapters[0], text_weight=asked(-0.5)),))
    assert infotext(one, 6, HASHES).startswith("a red circle <lora:outline:-0.5:0.8>\n")


def test_a_png_carries_text_and_plan() -> None:
    png = Image.open(io.BytesIO(encode_png(Image.new("RGB", (64, 48)), PLAN, 6, HASHES)))
    assert (png.format, png.size) == ("PNG", (64, 48))
    assert png.text["parameters"] == infotext(PLAN, 6, HASHES)  # type: ignore[attr-defined]
    plan = json.loads(png.text["modelshelf"])  # type: ignore[attr-defined]
    assert (plan["seed"], plan["adapters"][0]["weight"]["value"]) == (6, 0.8)


@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp"])
def test_in_every_format_the_text_is_there(file_format: Format) -> None:
    made = transcode(encode_png(Image.new("RGB", (64, 48)), PLAN, 6, HASHES), file_format, 90)
    picture = Image.open(io.BytesIO(made))
    assert (picture.format, picture.size) == (file_format.upper(), (64, 48))
    read = ParserManager().parse(picture)
    assert read is not None
    assert read.samplers[0].parameters["seed"] == "6"
    assert read.metadata["Hashes"]["lora:fast, really"] == "aaaaaaaaaaaa"


@pytest.mark.parametrize("kind", ["EPS", "GIF", "TIFF", "BMP"])
def test_a_picture_to_start_from_is_of_three_formats(kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    with pytest.raises(InvalidRequest, match="PNG, JPEG or WebP"):
        open_picture(buffer.getvalue())
