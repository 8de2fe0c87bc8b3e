"""Generations: what is asked for, the Plan, and what came of it."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import Annotated, Self

from pydantic import Base64Bytes, BaseModel, Field

from api.problems import Problem, told
from api.schemas.common import Body, BorrowedOut, Value
from registry.generation import Generation, Job, Preview
from registry.plans import AdapterRequest, GenerationRequest, Plan


class LoraIn(Body):
    model: str = Field(description="Id or name.", examples=["starter-outline-lora"])
    weight: float | None = Field(
        default=None, description="Left out: your setting, else the provider's, else the guide's."
    )
    text_weight: float | None = Field(
        default=None, description="For the text encoders, as in `<lora:name:text:denoiser>`. Left out: the same weight."
    )


MAX_IMAGE_TEXT = 48 * 2**20
"""Characters of base64: 36 MiB of picture file, which a 4096x4096 PNG of noise has."""


class GenerationIn(Body):
    """Everything but checkpoint and prompt may be left out: the Plan in the answer says what was used and why."""

    checkpoint: str = Field(description="Id or name.", examples=["starter-base"])
    prompt: str = Field(
        description="May name LoRAs, as `<lora:name:weight>` or `<lora:name:text encoders':denoiser's>`.",
        examples=["a red circle on a white background"],
    )
    negative_prompt: str = ""
    loras: list[LoraIn] = Field(
        default=[], max_length=64, examples=[[{"model": "starter-outline-lora", "weight": 0.8}]]
    )
    steps: int | None = None
    cfg: float | None = None
    scheduler: str | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    width: int | None = Field(default=None, description="pixels")
    height: int | None = Field(default=None, description="pixels")
    n: int = 1
    image: Annotated[Base64Bytes, Field(strict=False)] | None = Field(
        default=None, description="A picture file in base64: image-to-image starts from it.", max_length=MAX_IMAGE_TEXT
    )
    strength: float | None = Field(
        default=None, description="Of image-to-image, 0 to 1: how much of the steps run. Left out: 0.75."
    )
    prediction_type: str | None = Field(
        default=None,
        description="What the checkpoint predicts, where its files do not tell: epsilon, v_prediction, sample.",
    )
    previews: bool = Field(default=False, description="Whether the events show the picture in the making.")

    def request(self) -> GenerationRequest:
        fields = self.model_dump(exclude={"loras", "previews", "image"})
        loras = tuple(AdapterRequest(a.model, a.weight, a.text_weight) for a in self.loras)
        return GenerationRequest(loras=loras, image=self.image, **fields)


class PlannedLora(BaseModel):
    id: str = Field(examples=["0f3a5c7e9b1d"])
    name: str = Field(examples=["starter-outline-lora"])
    kind: str = Field(examples=["lora"])
    weight: Value
    text_weight: Value | None
    triggers: list[str] = Field(examples=[["outline style"]])


class PlanOut(BaseModel):
    checkpoint: str = Field(examples=["0f3a5c7e9b1d"])
    checkpoint_name: str = Field(examples=["starter-base"])
    family: str = Field(examples=["sd-1"])
    loras: list[PlannedLora]
    prompt: str = Field(examples=["a red circle on a white background"])
    negative_prompt: str = Field(examples=[""])
    scheduler: Value
    steps: Value
    cfg: Value
    seed: Value
    width: Value
    height: Value
    n: int = Field(description="pictures", examples=[1])
    eta: float | None = Field(description="Stochasticity of DDIM and TCD; None: the scheduler's own.")
    strength: Value | None
    image: str | None = Field(description="SHA-256 of the picture that it starts from.")
    prediction_type: Value | None
    borrowed: list[BorrowedOut] = Field(
        description="What the checkpoint's file does not have, and which model lends it.", examples=[[]]
    )
    notes: list[str] = Field(description="How it came to be so.", examples=[[]])
    warnings: list[str] = Field(description="What contradicts a recipe or was taken for granted.", examples=[[]])

    @classmethod
    def of(cls, plan: Plan) -> Self:
        fields = plan.as_dict()
        return cls.model_validate({**fields, "loras": fields.pop("adapters")})


class WeightRange(BaseModel):
    min: float = Field(examples=[0.5])
    max: float = Field(examples=[1.0])
    origin: str = Field(examples=["recommended"])
    by: str = Field(examples=["model card of starter-outline-lora"])


class PlanPreview(BaseModel):
    plan: PlanOut
    recommended: PlanOut = Field(
        description="The plan if the request stated no steps, CFG, scheduler, size and weights."
    )
    ranges: dict[str, WeightRange] = Field(
        description="LoRA id -> the weights between which it works, where that is stated.",
        examples=[{"0f3a5c7e9b1d": {"min": 0.5, "max": 1.0, "origin": "recommended", "by": "model card of x"}}],
    )

    @classmethod
    def of(cls, preview: Preview) -> Self:
        ranges = {
            model: WeightRange(min=r.value[0], max=r.value[1], origin=r.origin, by=r.by)
            for model, r in preview.ranges.items()
            if r is not None
        }
        return cls(plan=PlanOut.of(preview.plan), recommended=PlanOut.of(preview.recommended), ranges=ranges)


class SchedulerOut(BaseModel):
    name: str = Field(examples=["dpmpp_2m_karras"])
    label: str = Field(examples=["DPM++ 2M Karras"])


class SchedulerList(BaseModel):
    schedulers: list[SchedulerOut]


class PictureOut(BaseModel):
    png: str = Field(description="A PNG file, base64.", examples=["iVBORw0KGgo..."])
    seed: int = Field(examples=[7])


class GenerationOut(BaseModel):
    id: str = Field(examples=["0f3a5c7e9b1d"])
    images: list[PictureOut]
    plan: PlanOut
    warnings: list[str] = Field(
        description="What contradicts a recipe, was taken for granted, or was left out.", examples=[[]]
    )
    timings: dict[str, float] = Field(
        description="seconds", examples=[{"load": 0.1, "adapters": 0.02, "denoise": 0.9, "total": 1.2}]
    )

    @classmethod
    def of(cls, job: Job, made: Generation) -> Self:
        return cls(
            id=job.id,
            images=_pictures(made),
            plan=PlanOut.of(made.plan),
            warnings=list(made.warnings),
            timings=dict(made.timings),
        )


class GenerationJobOut(BaseModel):
    """A generation as it stands."""

    id: str = Field(examples=["0f3a5c7e9b1d"])
    state: str = Field(description="queued, running, succeeded, failed or cancelled", examples=["running"])
    ahead: int | None = Field(description="How many are before it; None once it runs.")
    step: int = Field(description="Denoising steps done, of `steps`.", examples=[3])
    steps: int = Field(examples=[25])
    waiting_for: str | None = Field(
        description="While it runs and cannot go on.", examples=["room in memory, which other-base (loading) takes up"]
    )
    plan: PlanOut
    warnings: list[str] = Field(examples=[[]])
    images: list[PictureOut] | None = Field(description="Once it has succeeded.")
    timings: dict[str, float] | None = Field(description="seconds")
    error: Problem | None
    created_at: datetime

    @classmethod
    def of(cls, job: Job, ahead: int | None, *, pictures: bool = True) -> Self:
        made = job.result
        return cls(
            id=job.id,
            state=job.state,
            ahead=ahead,
            step=job.done,
            steps=job.total,
            waiting_for=job.waits_for,
            plan=PlanOut.of(job.plan),
            warnings=list(made.warnings if made else job.plan.warnings),
            images=_pictures(made) if made and pictures else None,
            timings=dict(made.timings) if made else None,
            error=told(job.error) if job.error else None,
            created_at=job.created_at,
        )


class GenerationList(BaseModel):
    generations: list[GenerationJobOut]


def _pictures(made: Generation) -> list[PictureOut]:
    return [PictureOut(png=b64encode(picture.png).decode(), seed=picture.seed) for picture in made.pictures]
