"""What goes over the wire. Tables of the registry are never answered as they are."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, StringConstraints

from api.problems import Problem, recorded, told
from registry.backends import Residents
from registry.compatibility import Fit
from registry.fits import verdict_of
from registry.generation import Generation, Job, Preview
from registry.installs.inquiry import Inquiry
from registry.installs.options import Place
from registry.manager import Compatible, CompatibleBases
from registry.models import Model, ModelFile
from registry.plans import AdapterRequest, GenerationRequest, Plan, Sourced
from registry.recipes import adapter_weight
from registry.sources import without_signature
from registry.tables import Install, ScanRow
from registry.verdicts import Verdict

# No control characters, which a line cannot show. In a name none of the characters either that take apart `<lora:name:0.8>` or a path.
PRINTED = r"^[^\x00-\x1f\x7f]*$"
NAME = r"^[^\x00-\x1f\x7f<>:/\\]*$"
TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"  # a tab and a new line are allowed


class Body(BaseModel):
    """A request: an unknown field is an error, so that a typing mistake does not silently do nothing."""

    model_config = ConfigDict(extra="forbid")


class Value(BaseModel):
    """A value and where it came from: `requested`, `user`, `recommended` or `default`, and by whom."""

    value: float | int | str
    origin: str
    by: str

    @classmethod
    def of(cls, sourced: Sourced[Any]) -> Self:
        return cls(value=sourced.value, origin=sourced.origin, by=sourced.by)


class ModelOut(BaseModel):
    id: str
    name: str
    kind: str
    family: str
    variant: str | None
    prediction_type: str | None
    format: str
    size: int = Field(description="bytes")
    blake3: str | None = Field(description="None until a model that was scanned in place has been hashed.")
    sha256: str | None
    autov3: str | None
    source: str
    repo_id: str | None
    revision: str | None
    base_model: str | None
    triggers: list[str]
    weight: Value | None = Field(description="The weight a LoRA gets when none is asked for; None for a checkpoint.")
    recipe: dict[str, Any] = Field(description="What the provider recommends, with the passage it was read from.")
    overrides: dict[str, Any] = Field(description="Your own settings, which beat the provider's.")
    facts: dict[str, Any] = Field(description="What else is said of it: title, author, license, each with who says so.")
    tags: list[str]
    preview: str | None = Field(
        description="Tells its picture, at /v1/models/{id}/preview, from an earlier one. None: there is none."
    )
    path: str = Field(description="Relative to the service's root, when inside it.")
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
        weight = None if model.kind == "checkpoint" else Value.of(adapter_weight(model))
        return {"weight": weight} | {name: getattr(model, name) for name in ModelOut.model_fields if name != "weight"}


class DigestOut(BaseModel):
    algorithm: str
    value: str
    by: str = Field(description="Empty: computed from the bytes. Else who claims it.")
    contradicted: bool = Field(description="The bytes were found to have another one than is claimed.")


class SourceOut(BaseModel):
    url: str
    repo_id: str | None
    revision: str | None
    ref: str | None
    path: str | None
    etag: str | None


class FileOut(BaseModel):
    path: str = Field(description="Inside the model's folder; empty for a model that is one file.")
    size: int = Field(description="bytes")
    sha256: str | None
    blake3: str | None


class ModelDetail(ModelOut):
    digests: list[DigestOut]
    sources: list[SourceOut]
    files: list[FileOut]
    report: dict[str, Any] = Field(
        description="The probe's answer when the model was last looked at, with its evidence."
    )

    @classmethod
    def detailed(cls, model: Model, files: Sequence[ModelFile], report: dict[str, Any]) -> Self:
        return cls(
            **cls.facts_of(model),
            digests=[DigestOut(**d._asdict(), contradicted=model.contradicts(d)) for d in model.digests],
            sources=[SourceOut.model_validate(s, from_attributes=True) for s in model.sources],
            files=[FileOut.model_validate(f, from_attributes=True) for f in files],
            report=report,
        )


class ModelList(BaseModel):
    models: list[ModelOut]
    next: str | None = Field(description="`cursor` of the next page; null: this is the last.")


class FamilyOut(BaseModel):
    family: str
    models: int
    kinds: dict[str, int] = Field(description="Kind -> number of models.")


class FamilyList(BaseModel):
    families: list[FamilyOut]


Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=PRINTED)]


class OverridesIn(Body):
    """What you say of a model, which beats what its provider says; null takes one back. The name cannot be taken back."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=150, pattern=NAME)] = Field(
        default="", description="Of the model; its file keeps the one it has."
    )
    triggers: list[Word] | None = Field(default=None, max_length=50)
    tags: list[Word] | None = Field(default=None, max_length=50, description="Beside those that the probe gives.")
    notes: Annotated[str, StringConstraints(max_length=10_000, pattern=TEXT)] | None = None
    weight: float | None = None
    weight_min: float | None = Field(default=None, description="The weights between which it works, both or neither.")
    weight_max: float | None = None
    steps: int | None = None
    cfg: float | None = None
    scheduler: str | None = None


class FitOut(BaseModel):
    """Does a LoRA fit a checkpoint? `model` is the one of the two that was not asked about."""

    model: ModelOut
    fits: bool
    verdict: Verdict = Field(description="`partly`: some tensors fit. It is refused like one that does not fit at all.")
    reason: str
    matched: int = Field(description="Tensors of the LoRA that fit.")
    total: int = Field(description="Tensors of the LoRA.")

    @classmethod
    def of(cls, model: Model, fit: Fit) -> Self:
        facts = {"reason": fit.reason, "matched": fit.matched, "total": fit.total}
        return cls(model=ModelOut.of(model), fits=fit.fits, verdict=verdict_of(fit), **facts)


class CompatibleLoras(BaseModel):
    checkpoint: str
    loras: list[FitOut]
    next: str | None = Field(description="`cursor` of the next page; null: this is the last.")

    @classmethod
    def of(cls, found: Compatible) -> Self:
        loras = [FitOut.of(model, fit) for model, fit in found.loras]
        return cls(checkpoint=found.checkpoint.id, loras=loras, next=found.cursor)


class CompatibleCheckpoints(BaseModel):
    lora: str
    checkpoints: list[FitOut]
    next: str | None = Field(description="`cursor` of the next page; null: this is the last.")

    @classmethod
    def of(cls, found: CompatibleBases) -> Self:
        checkpoints = [FitOut.of(model, fit) for model, fit in found.checkpoints]
        return cls(lora=found.lora.id, checkpoints=checkpoints, next=found.cursor)


class ProbeIn(Body):
    source: str = Field(examples=["https://huggingface.co/latent-consistency/lcm-lora-sdv1-5"], min_length=1)


class ProbeOut(BaseModel):
    source: str = Field(description="Canonical, with the commit.")
    name: str
    size: int = Field(description="Bytes that an install would fetch.")
    kind: str | None
    family: str | None
    variant: str | None
    report: dict[str, Any] = Field(description="The probe's whole answer, with its evidence.")
    refusal: Problem | None = Field(description="Why it would not be installed.")
    installed: ModelOut | None = Field(description="The same model, if it is installed already.")
    checkpoints: list[FitOut] = Field(description="Of a LoRA: the installed checkpoints of its family.")

    @classmethod
    def of(cls, found: Inquiry) -> Self:
        candidate, report = found.candidate, found.candidate.report
        return cls(
            source=candidate.listing.source,
            name=candidate.selection.name,
            size=candidate.selection.size,
            kind=report.kind,
            family=report.family,
            variant=report.variant,
            report=report.as_dict(),
            refusal=found.refusal and told(found.refusal),
            installed=found.installed and ModelOut.of(found.installed),
            checkpoints=[FitOut.of(model, fit) for model, fit in found.fits],
        )


class InstallIn(Body):
    source: str = Field(examples=["https://huggingface.co/latent-consistency/lcm-lora-sdv1-5"], min_length=1)
    place: Place = Field(
        default=Place.COPY,
        description="Of a file or folder on the server: whether it is copied, moved, or registered where it lies.",
    )
    variant: str | None = Field(
        default=None,
        description="Of a pipeline's weights that are there in several precisions, such as fp16. Left out: the unmarked ones.",
        pattern=r"^\w+$",
    )


class InstallOut(BaseModel):
    id: str
    state: str
    source: str
    bytes_done: int
    bytes_total: int
    bytes_per_second: float | None = Field(description="Of the transfer that runs.")
    seconds_left: float | None = Field(description="At that rate.")
    filename: str | None = Field(description="The file that arrives.")
    notes: list[str] = Field(description="What is worth knowing of the outcome.")
    error: Problem | None
    model_id: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, install: Install) -> Self:
        error = None if install.error is None else recorded(install.error)
        rate, missing = install.bytes_per_second, install.bytes_total - install.bytes_done
        left = round(missing / rate, 1) if rate and missing > 0 else None
        facts = install.model_dump(include=set(cls.model_fields) - {"error", "seconds_left"})
        facts["source"] = without_signature(install.source)
        return cls(error=error, seconds_left=left, **facts)


class InstallList(BaseModel):
    installs: list[InstallOut]


class ScanIn(Body):
    folder: str = Field(
        description="Absolute path on the server, in a folder that may be scanned.", min_length=1, max_length=4096
    )


class ScanOut(BaseModel):
    id: str
    folder: str
    state: str
    counts: dict[str, int] = Field(description="Models: unchanged, added, changed, moved, missing; files skipped.")
    error: Problem | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, scan: ScanRow) -> Self:
        error = None if scan.error is None else recorded(scan.error)
        return cls(error=error, **scan.model_dump(include=set(cls.model_fields) - {"error"}))


class ScanList(BaseModel):
    scans: list[ScanOut]
    folders: list[str]


class LoraIn(Body):
    model: str = Field(description="Id or name.")
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

    checkpoint: str = Field(description="Id or name.")
    prompt: str
    negative_prompt: str = ""
    loras: list[LoraIn] = []
    steps: int | None = None
    cfg: float | None = None
    scheduler: str | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    width: int | None = Field(default=None, description="pixels")
    height: int | None = Field(default=None, description="pixels")
    n: int = 1
    image: Base64Bytes | None = Field(
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
    id: str
    name: str
    kind: str
    weight: Value
    text_weight: Value | None
    triggers: list[str]


class PlanOut(BaseModel):
    checkpoint: str
    checkpoint_name: str
    family: str
    loras: list[PlannedLora]
    prompt: str
    negative_prompt: str
    scheduler: Value
    steps: Value
    cfg: Value
    seed: Value
    width: Value
    height: Value
    n: int
    eta: float | None = Field(description="Stochasticity of DDIM and TCD; None: the scheduler's own.")
    strength: Value | None
    image: str | None = Field(description="SHA-256 of the picture that it starts from.")
    prediction_type: Value | None
    notes: list[str]
    warnings: list[str]

    @classmethod
    def of(cls, plan: Plan) -> Self:
        fields = plan.as_dict()
        return cls.model_validate({**fields, "loras": fields.pop("adapters")})


class WeightRange(BaseModel):
    min: float
    max: float
    origin: str
    by: str


class PlanPreview(BaseModel):
    plan: PlanOut
    recommended: PlanOut = Field(
        description="The plan if the request stated no steps, CFG, scheduler, size and weights."
    )
    ranges: dict[str, WeightRange] = Field(
        description="LoRA id -> the weights between which it works, where that is stated."
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
    name: str
    label: str


class SchedulerList(BaseModel):
    schedulers: list[SchedulerOut]


class PictureOut(BaseModel):
    png: str = Field(description="A PNG file, base64.")
    seed: int


class GenerationOut(BaseModel):
    id: str
    images: list[PictureOut]
    plan: PlanOut
    warnings: list[str] = Field(description="What contradicts a recipe, was taken for granted, or was left out.")
    timings: dict[str, float] = Field(description="seconds")

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

    id: str
    state: str = Field(description="queued, running, succeeded, failed or cancelled")
    ahead: int | None = Field(description="How many are before it; None once it runs.")
    step: int = Field(description="Denoising steps done, of `steps`.")
    steps: int
    plan: PlanOut
    warnings: list[str]
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


class TierOut(BaseModel):
    name: str = Field(description="device or host")
    device: str
    budget: int = Field(description="bytes")
    used: int = Field(description="bytes")


class ResidentOut(BaseModel):
    tier: str
    digest: str = Field(description="BLAKE3 of the model's file or folder")
    name: str
    nbytes: int
    holders: tuple[str, ...] = Field(description="who works with it now")
    idle: float = Field(description="seconds since nobody does")


class ResidencyOut(BaseModel):
    tiers: list[TierOut]
    models: list[ResidentOut]

    @classmethod
    def of(cls, residents: Residents) -> Self:
        return cls.model_validate(asdict(residents))
