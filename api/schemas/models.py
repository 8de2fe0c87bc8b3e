"""Models, what is said of them, and what fits what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints

from api.schemas.common import NAME, PRINTED, REPORT, SHA256, TEXT, Body, BorrowedOut, Family, Sayable, Value
from registry.catalog import Page
from registry.compatibility import Fit
from registry.fits import verdict_of
from registry.matches import Checkpoints, Loras
from registry.models import Model, ModelFile
from registry.plans import Borrowed
from registry.recipes import adapter_weight
from registry.verdicts import Verdict


class ModelOut(BaseModel):
    id: str = Field(examples=["0f3a5c7e9b1d"])
    name: str = Field(examples=["starter-outline-lora"])
    kind: str = Field(examples=["lora"])
    family: str = Field(examples=["sd-1"])
    variant: str | None
    prediction_type: str | None
    format: str = Field(examples=["safetensors"])
    size: int = Field(description="bytes", examples=[178272])
    blake3: str | None = Field(description="None until a model that was scanned in place has been hashed.")
    sha256: str | None
    autov3: str | None
    source: str = Field(examples=["hf://modelshelf/starter-outline-lora@c0ffee/pytorch_lora_weights.safetensors"])
    repo_id: str | None = Field(examples=["modelshelf/starter-outline-lora"])
    revision: str | None
    base_model: str | None
    triggers: list[str] = Field(examples=[["outline style"]])
    weight: Value | None = Field(description="The weight a LoRA gets when none is asked for; None for a checkpoint.")
    recipe: dict[str, Any] = Field(
        description="What the provider recommends, with the passage it was read from.",
        examples=[{"weight": {"value": 0.75, "by": "model card", "quote": "a weight of 0.75"}}],
    )
    overrides: dict[str, Any] = Field(
        description="Your own settings, which beat the provider's.", examples=[{"weight": 0.6}]
    )
    facts: dict[str, Any] = Field(
        description="What else is said of it: title, author, license, each with who says so.",
        examples=[{"license": {"value": "apache-2.0", "by": "model card"}}],
    )
    tags: list[str] = Field(examples=[["style"]])
    preview: str | None = Field(
        description="Tells its picture, at /v1/models/{id}/preview, from an earlier one. None: there is none."
    )
    path: str = Field(
        description="Relative to the service's root, when inside it.",
        examples=["lora/sd-1/starter-outline-lora.safetensors"],
    )
    managed: bool = Field(description="False: registered where it lies; never moved or deleted.")
    created_at: datetime
    hashed_at: datetime | None
    missing_since: datetime | None
    damaged_at: datetime | None = Field(description="When its bytes were found to have changed.")

    @classmethod
    def of(cls, model: Model) -> Self:
        return cls(**cls.facts_of(model))

    @staticmethod
    def facts_of(model: Model) -> dict[str, Any]:
        """All fields in order: an answer as it stands, where it has too many models for checking each of their values."""
        weight = None if model.kind == "checkpoint" else adapter_weight(model)
        return dict(zip(_FIELDS, (*_before(model), weight, *_behind(model)), strict=True))


_FIELDS = list(ModelOut.model_fields)
_before = attrgetter(*_FIELDS[: _FIELDS.index("weight")])
_behind = attrgetter(*_FIELDS[_FIELDS.index("weight") + 1 :])


class DigestOut(BaseModel):
    algorithm: str = Field(examples=["sha256"])
    value: str = Field(examples=[SHA256])
    by: str = Field(description="Empty: computed from the bytes. Else who claims it.", examples=["huggingface.co"])
    contradicted: bool = Field(description="The bytes were found to have another one than is claimed.")


class SourceOut(BaseModel):
    url: str = Field(examples=["hf://modelshelf/starter-outline-lora@c0ffee/pytorch_lora_weights.safetensors"])
    repo_id: str | None
    revision: str | None
    ref: str | None
    path: str | None
    etag: str | None


class FileOut(BaseModel):
    path: str = Field(description="Inside the model's folder; empty for a model that is one file.", examples=[""])
    size: int = Field(description="bytes", examples=[178272])
    sha256: str | None
    blake3: str | None


class OpenAIModel(BaseModel):
    """As OpenAI's clients read a model in a list; `id` is what their requests call it by."""

    id: str = Field(examples=["starter-outline-lora"])
    object: Literal["model"] = "model"
    created: int = Field(description="seconds since 1970", examples=[1795705200])
    owned_by: str = Field(examples=["modelshelf"])

    @staticmethod
    def facts_of(model: Model) -> dict[str, Any]:
        """All fields but `id`."""
        owner = (model.repo_id or "").partition("/")[0]
        return {"object": "model", "created": int(model.created_at.timestamp()), "owned_by": owner}


class ModelDetail(ModelOut):
    digests: list[DigestOut]
    sources: list[SourceOut]
    files: list[FileOut]
    borrowed: list[BorrowedOut] = Field(
        description="What a checkpoint's file does not have, and which model lends it for pictures.", examples=[[]]
    )
    object: Literal["model"] = "model"  # this and the next two for OpenAI's clients
    created: int = Field(description="seconds since 1970", examples=[1795705200])
    owned_by: str = Field(examples=["modelshelf"])
    report: dict[str, Any] = Field(
        description="The probe's answer when the model was last looked at, with its evidence.", examples=[REPORT]
    )

    @classmethod
    def detailed(
        cls, model: Model, files: Sequence[ModelFile], borrowed: Sequence[Borrowed], report: dict[str, Any]
    ) -> Self:
        return cls(
            **cls.facts_of(model),
            digests=[DigestOut(**d._asdict(), contradicted=model.contradicts(d)) for d in model.digests],
            sources=[SourceOut.model_validate(s, from_attributes=True) for s in model.sources],
            files=[FileOut.model_validate(f, from_attributes=True) for f in files],
            borrowed=[BorrowedOut.model_validate(b, from_attributes=True) for b in borrowed],
            report=report,
            **OpenAIModel.facts_of(model),
        )


class ModelList(BaseModel):
    models: list[ModelOut]
    next: str | None = Field(description="`cursor` of the next page; null: this is the last.")
    object: Literal["list"] = "list"
    data: list[OpenAIModel] = Field(description="The same models once more, for OpenAI's clients.")

    @staticmethod
    def facts_of(page: Page) -> dict[str, Any]:
        return {
            "models": [ModelOut.facts_of(m) for m in page.models],
            "next": page.cursor,
            "object": "list",
            "data": [{"id": m.name} | OpenAIModel.facts_of(m) for m in page.models],
        }


class FamilyOut(BaseModel):
    family: str = Field(examples=["sd-1"])
    models: int = Field(examples=[4])
    kinds: dict[str, int] = Field(
        description="Kind -> number of models.", examples=[{"checkpoint": 1, "lora": 2, "lcm_lora": 1}]
    )


class FamilyList(BaseModel):
    families: list[FamilyOut]


Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=PRINTED)]


class OverridesIn(Body):
    """What you say of a model, which beats what its provider says; null takes one back. The name cannot be taken back."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=150, pattern=NAME)] = Field(
        default="", description="Of the model; its file keeps the one it has."
    )
    triggers: list[Word] | None = Field(default=None, max_length=50)
    tags: list[Word] | None = Field(
        default=None, max_length=50, description="Beside those that the probe gives.", examples=[["favourites"]]
    )
    notes: Annotated[str, StringConstraints(max_length=10_000, pattern=TEXT)] | None = None
    weight: float | None = Field(default=None, examples=[0.6])
    weight_min: float | None = Field(default=None, description="The weights between which it works, both or neither.")
    weight_max: float | None = None
    steps: int | None = None
    cfg: float | None = None
    scheduler: str | None = None
    family: Family | None = None
    kind: Sayable | None = None


class FitOut(BaseModel):
    """Does a LoRA fit a checkpoint? `model` is the one of the two that was not asked about."""

    model: ModelOut
    fits: bool
    verdict: Verdict = Field(description="`partly`: some tensors fit. It is refused like one that does not fit at all.")
    reason: str = Field(examples=["all 64 tensors fit"])
    matched: int = Field(description="Tensors of the LoRA that fit.", examples=[64])
    total: int = Field(description="Tensors of the LoRA.", examples=[64])

    @classmethod
    def of(cls, model: Model, fit: Fit) -> Self:
        return cls(**cls.facts_of(model, fit))

    @staticmethod
    def facts_of(model: Model, fit: Fit) -> dict[str, Any]:
        verdict = {"fits": fit.fits, "verdict": verdict_of(fit), "reason": fit.reason}
        return {"model": ModelOut.facts_of(model), **verdict, "matched": fit.matched, "total": fit.total}


class CompatibleLoras(BaseModel):
    checkpoint: str = Field(description="Its id.", examples=["0f3a5c7e9b1d"])
    loras: list[FitOut]
    next: str | None = Field(description="`cursor` of the next page; null: this is the last.")

    @staticmethod
    def facts_of(found: Loras) -> dict[str, Any]:
        loras = [FitOut.facts_of(model, fit) for model, fit in found.loras]
        return {"checkpoint": found.checkpoint.id, "loras": loras, "next": found.cursor}


class CompatibleCheckpoints(BaseModel):
    lora: str = Field(description="Its id.", examples=["0f3a5c7e9b1d"])
    checkpoints: list[FitOut]
    next: str | None = Field(description="`cursor` of the next page; null: this is the last.")

    @staticmethod
    def facts_of(found: Checkpoints) -> dict[str, Any]:
        checkpoints = [FitOut.facts_of(model, fit) for model, fit in found.checkpoints]
        return {"lora": found.lora.id, "checkpoints": checkpoints, "next": found.cursor}
