"""What /v1/images/generations takes and answers; names are OpenAI's, and below them ours.

https://platform.openai.com/docs/api-reference/images/create
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.common import Body
from api.schemas.generations import LoraIn
from registry.errors import InvalidRequest
from registry.pictures import Format
from registry.plans import AdapterRequest, GenerationRequest

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_WITHOUT_EFFECT = "Taken from clients that send it; changes nothing."


class ImagesIn(Body):
    """Left out, every value is decided by the recipes; null is the same."""

    model_config = ConfigDict(strict=False)

    prompt: str = Field(examples=["a red circle on a white background <lora:starter-outline-lora:0.8>"])
    model: str | None = Field(
        default=None,
        description="Checkpoint, by name or id. Left out: the one in use over /sdapi/v1, else the first by name.",
        examples=["starter-base"],
    )
    n: int | None = Field(default=None, ge=1, description="pictures", examples=[1])
    size: str | None = Field(default=None, description="WIDTHxHEIGHT in pixels, or auto.", examples=["64x64"])
    response_format: Literal["b64_json", "url"] | None = Field(
        default=None, description="url: an address that needs no token and works for an hour. Left out: b64_json."
    )
    output_format: Format | None = Field(default=None, description="Left out: png.")
    output_compression: int | None = Field(default=None, ge=0, le=100, description="Quality of jpeg and webp.")
    stream: bool | None = None
    partial_images: int | None = Field(default=None, ge=0, le=3, description="With stream: pictures in the making.")
    background: Literal["auto", "opaque"] | None = Field(default=None, description="No model here makes others.")
    quality: str | None = Field(default=None, description=_WITHOUT_EFFECT)
    style: str | None = Field(default=None, description=_WITHOUT_EFFECT)
    moderation: str | None = Field(default=None, description=_WITHOUT_EFFECT)
    user: str | None = Field(default=None, description=_WITHOUT_EFFECT)
    safety_identifier: str | None = Field(default=None, description=_WITHOUT_EFFECT)

    negative_prompt: str = ""
    loras: list[LoraIn] = Field(default=[], max_length=64, description="Beside those in the prompt.")
    steps: int | None = Field(default=None, examples=[4])
    cfg: float | None = None
    scheduler: str | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**32)

    @property
    def file_format(self) -> Format:
        return self.output_format or "png"

    def request(self, checkpoint: str) -> GenerationRequest:
        """Raises InvalidRequest."""
        width, height = self._sides()
        return GenerationRequest(
            checkpoint=checkpoint,
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            loras=tuple(AdapterRequest(a.model, a.weight, a.text_weight) for a in self.loras),
            steps=self.steps,
            cfg=self.cfg,
            scheduler=self.scheduler,
            seed=self.seed,
            width=width,
            height=height,
            n=self.n or 1,
        )

    def _sides(self) -> tuple[int | None, int | None]:
        if self.size in (None, "auto"):
            return None, None
        if (sides := _SIZE.fullmatch(self.size or "")) is None:
            raise InvalidRequest(f"size is {self.size!r}; it is WIDTHxHEIGHT in pixels, or auto.", field="size")
        return int(sides[1]), int(sides[2])


class ImageOut(BaseModel):
    b64_json: str | None = Field(default=None, examples=["iVBORw0KGgo..."])
    url: str | None = None
    revised_prompt: str = Field(description="As the model was given it, without the LoRAs.", examples=["a red circle"])


class InputTokens(BaseModel):
    image_tokens: int = 0
    text_tokens: int = 0


class Usage(BaseModel):
    """Always zero: nothing here is counted in tokens. Clients read it."""

    input_tokens: int = 0
    input_tokens_details: InputTokens = InputTokens()
    output_tokens: int = 0
    total_tokens: int = 0


class ImagesOut(BaseModel):
    created: int = Field(description="seconds since 1970", examples=[1795705200])
    data: list[ImageOut]
    output_format: Format
    size: str = Field(examples=["64x64"])
    background: Literal["opaque"] = "opaque"
    usage: Usage = Usage()
    warnings: list[str] = Field(
        description="What contradicts a recipe, was taken for granted, or was left out.", examples=[[]]
    )


class ImageEvent(BaseModel):
    """An event of a streamed answer."""

    type: Literal["image_generation.partial_image", "image_generation.completed"]
    b64_json: str = Field(examples=["iVBORw0KGgo..."])
    created_at: int = Field(examples=[1795705200])
    output_format: Format
    size: str = Field(examples=["64x64"])
    background: Literal["opaque"] = "opaque"
    quality: Literal["auto"] = "auto"
    partial_image_index: int | None = Field(default=None, description="Of a partial picture, from 0.")
    usage: Usage | None = Field(default=None, description="Of a whole picture.")
