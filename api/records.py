"""What the service answers, as typed values: one record for each schema of /openapi.json, field by field (a test holds them together).

For the client and the command line: plain dataclasses, which are imported in no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from registry.errors import ModelshelfError, recreate


@dataclass(frozen=True, slots=True)
class Value:
    """A value and where it came from: `requested`, `user`, `recommended` or `default`, and by whom."""

    value: Any
    origin: str
    by: str


@dataclass(frozen=True, slots=True)
class Problem:
    """An error that is part of an answer. `code` is stable."""

    code: str
    detail: str
    facts: dict[str, Any] | None

    @property
    def error(self) -> ModelshelfError:
        return recreate(self.code, self.detail, self.facts or {})


@dataclass(frozen=True, slots=True)
class Model:
    """`size` in bytes; `weight`: what a LoRA gets when none is asked for; `recipe`: what its provider recommends; `overrides`: your
    own settings. `managed` False: registered where it lies. `path` is relative to the service's root when inside it."""

    id: str
    name: str
    kind: str
    family: str
    variant: str | None
    prediction_type: str | None
    format: str
    size: int
    blake3: str | None
    sha256: str | None
    autov3: str | None
    source: str
    repo_id: str | None
    revision: str | None
    base_model: str | None
    triggers: list[str]
    weight: Value | None
    recipe: dict[str, Any]
    overrides: dict[str, Any]
    facts: dict[str, Any]
    tags: list[str]
    preview: str | None
    path: str
    managed: bool
    created_at: datetime
    hashed_at: datetime | None
    missing_since: datetime | None
    damaged_at: datetime | None


class Filters(TypedDict, total=False):
    """Which models, and in what order. `q`: words that all stand somewhere in name, repositories, triggers, tags, title or author;
    `digest`: of any kind, or how it begins; `compatible_with`: a checkpoint, for the LoRAs that fit it; `missing`: only those whose file is
    gone, or only those that are there; `sort`: name, created or size, with - in front from the end."""

    kind: str | None
    family: str | None
    tag: str | None
    q: str | None
    digest: str | None
    compatible_with: str | None
    missing: bool | None
    sort: str


@dataclass(frozen=True, slots=True)
class Digest:
    """`by` is empty for one computed from the bytes, else who claims it. `contradicted`: the bytes were found to have another one."""

    algorithm: str
    value: str
    by: str
    contradicted: bool


@dataclass(frozen=True, slots=True)
class Source:
    url: str
    repo_id: str | None
    revision: str | None
    ref: str | None
    path: str | None
    etag: str | None


@dataclass(frozen=True, slots=True)
class File:
    """`path` inside the model's folder, empty for a model that is one file; `size` in bytes."""

    path: str
    size: int
    sha256: str | None
    blake3: str | None


@dataclass(frozen=True, slots=True)
class Borrowed:
    """`components` of the model `name` that the checkpoint's file does not have itself; `digest`: SHA-256, else BLAKE3."""

    id: str
    name: str
    digest: str | None
    components: list[str]


@dataclass(frozen=True, slots=True)
class ModelDetail(Model):
    """`report`: the probe's answer when the model was last looked at, with its evidence."""

    digests: list[Digest]
    sources: list[Source]
    files: list[File]
    borrowed: list[Borrowed]
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """`kinds`: kind -> number of models."""

    family: str
    models: int
    kinds: dict[str, int]


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a LoRA fits a checkpoint; `model` is the one of the two that was not asked about. `matched` of `total` tensors fit."""

    model: Model
    fits: bool
    verdict: str
    reason: str
    matched: int
    total: int


@dataclass(frozen=True, slots=True)
class Probe:
    """What a source is. `refusal`: why it would not be installed; `installed`: the same model, if it is there already; `checkpoints`:
    of a LoRA, the verdict on the installed checkpoints of its family."""

    source: str
    name: str
    size: int
    kind: str | None
    family: str | None
    variant: str | None
    variants: list[str]
    report: dict[str, Any]
    refusal: Problem | None
    installed: Model | None
    checkpoints: list[Fit]


@dataclass(frozen=True, slots=True)
class Install:
    """`state`: queued, resolving, downloading, probing, registering; paused; installed, failed or cancelled, which are its ends."""

    id: str
    state: str
    source: str
    bytes_done: int
    bytes_total: int
    bytes_per_second: float | None
    seconds_left: float | None
    filename: str | None
    notes: list[str]
    error: Problem | None
    model_id: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def ended(self) -> bool:
        return self.state in ("installed", "failed", "cancelled")

    @property
    def trouble(self) -> str | None:
        """Why it stands still, or has failed."""
        return self.error.detail if self.error else None


@dataclass(frozen=True, slots=True)
class Skip:
    """Files that a scan has passed over for the same `reason`; `examples`: paths of some."""

    reason: str
    count: int
    examples: list[str]


@dataclass(frozen=True, slots=True)
class Scan:
    """`state`: queued, running; done, failed or cancelled, which are its ends. `counts` of models, and of files `skipped`."""

    id: str
    folder: str
    state: str
    counts: dict[str, int]
    skips: list[Skip]
    error: Problem | None
    created_at: datetime
    updated_at: datetime

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Finding:
    """What upkeep has found of one model."""

    model_id: str
    name: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class Task:
    """Upkeep over many models. `kind`: verify, hash, check-updates, update or load; `state`: queued, running; succeeded, failed or
    cancelled, which are its ends. `done` of `total` models; `counts`: outcome -> models; `findings`: what is not as it should be, or has
    changed."""

    id: str
    kind: str
    state: str
    done: int
    total: int
    counts: dict[str, int]
    findings: list[Finding]
    error: Problem | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Duplicate:
    """`same`: "file" (every byte) or "weights" (only the headers differ)."""

    same: str
    digest: str
    models: list[Model]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What is there twice, the largest first. `unhashed`: models without digests, which were not compared."""

    duplicates: list[Duplicate]
    unhashed: int
    next: str | None


@dataclass(frozen=True, slots=True)
class WasteFile:
    """`path` relative to the service's root; `size` in bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Waste:
    """What nothing refers to: files, `count` of them and `size` bytes, and `verdicts` on models that are gone."""

    files: list[WasteFile]
    count: int
    size: int
    verdicts: int
    next: str | None


@dataclass(frozen=True, slots=True)
class Removed:
    """`count` files of `size` bytes, and `verdicts` on models that are gone."""

    count: int
    size: int
    verdicts: int


@dataclass(frozen=True, slots=True)
class Check:
    """What a doctor has looked at. `verdict`: ok, note or problem; `advice`: what to do, empty where there is nothing."""

    name: str
    verdict: str
    found: str
    advice: str


@dataclass(frozen=True, slots=True)
class Token:
    id: str
    name: str
    scopes: list[str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewToken(Token):
    """`token`: the secret, told this once."""

    token: str


@dataclass(frozen=True, slots=True)
class PlannedLora:
    id: str
    name: str
    kind: str
    weight: Value
    text_weight: Value | None
    triggers: list[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """A resolved generation: what will really run, and where every value came from. Sizes in pixels."""

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
    eta: float | None
    strength: Value | None
    image: str | None
    prediction_type: Value | None
    borrowed: list[Borrowed]
    notes: list[str]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class WeightRange:
    min: float
    max: float
    origin: str
    by: str


@dataclass(frozen=True, slots=True)
class PlanPreview:
    """`recommended`: the plan if nothing was stated; `ranges`: LoRA id -> the weights between which it works, where that is known."""

    plan: Plan
    recommended: Plan
    ranges: dict[str, WeightRange]


@dataclass(frozen=True, slots=True)
class Scheduler:
    name: str
    label: str


@dataclass(frozen=True, slots=True)
class Picture:
    """`png`: the bytes of a PNG file, with its parameters embedded."""

    png: bytes
    seed: int


@dataclass(frozen=True, slots=True)
class Generation:
    """`timings` in seconds."""

    id: str
    images: list[Picture]
    plan: Plan
    warnings: list[str]
    timings: dict[str, float]


@dataclass(frozen=True, slots=True)
class GenerationJob:
    """A generation as it stands. `state`: queued, running; succeeded, failed or cancelled, which are its ends. `ahead`: how many are
    before it; `step` of `steps` are done; `waiting_for`: what, while it runs and cannot go on; `images` once it has succeeded."""

    id: str
    state: str
    ahead: int | None
    step: int
    steps: int
    waiting_for: str | None
    plan: Plan
    warnings: list[str]
    images: list[Picture] | None
    timings: dict[str, float] | None
    error: Problem | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a generation: `queued`, `running`, `waiting` {for: what, or null when that is over}, `step`
    {done, total}, `preview` {images: PNG files}, or its end."""

    number: int
    name: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tier:
    """`budget` and `used` in bytes."""

    name: str
    device: str
    budget: int
    used: int


@dataclass(frozen=True, slots=True)
class Resident:
    """`holders`: who works with it now; `idle`: seconds since nobody does."""

    tier: str
    digest: str
    name: str
    nbytes: int
    holders: list[str]
    idle: float


@dataclass(frozen=True, slots=True)
class Residency:
    tiers: list[Tier]
    models: list[Resident]
