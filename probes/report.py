"""The answer of a probe, as values that print as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Outcome(StrEnum):
    IDENTIFIED = "identified"
    AMBIGUOUS = "ambiguous"
    UNKNOWN = "unknown"
    UNUSABLE = "unusable"


class Kind(StrEnum):
    """Every kind of file that is recognised; TAKEN are those that the registry takes."""

    CHECKPOINT = "checkpoint"
    LORA = "lora"
    LCM_LORA = "lcm_lora"
    VAE = "vae"
    CONTROLNET = "controlnet"
    T2I_ADAPTER = "t2i_adapter"
    IP_ADAPTER = "ip_adapter"
    CONTROL_LORA = "control_lora"
    MOTION_MODULE = "motion_module"
    MOTION_LORA = "motion_lora"
    TEXTUAL_INVERSION = "textual_inversion"
    TEXT_ENCODER = "text_encoder"
    IMAGE_ENCODER = "image_encoder"
    UPSCALER = "upscaler"
    LANGUAGE_MODEL = "language_model"
    SEGMENTER = "segmenter"
    DETECTOR = "detector"
    DEPTH_ESTIMATOR = "depth_estimator"
    CLASSIFIER = "classifier"
    INTERPOLATOR = "interpolator"
    FACE_ANIMATOR = "face_animator"
    HYPERNETWORK = "hypernetwork"
    AUDIO_MODEL = "audio_model"


def named(kind: Kind | None, family: str | None) -> str:
    """A kind with its family, as answers call it."""
    return " ".join(part for part in (family, kind) if part)


USER = "user"
"""Who says `Hints.family` and `Hints.kind`, in evidence."""
EXCLUDED = "excluded"
"""The rule of evidence on what the user says in vain."""
TAKEN = (Kind.CHECKPOINT, Kind.LORA, Kind.LCM_LORA)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One rule held against one file: the answer to "why SDXL?"."""

    rule: str
    ok: bool
    key: str | None = None
    expected: str | None = None
    seen: str | None = None


@dataclass(frozen=True, slots=True)
class Trait:
    """A property that no structure proves (`lcm`, `lightning`, ...): confidence in 0..1 and what spoke for and against
    it."""

    name: str
    confidence: float
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Hints:
    """What is known beside the bytes. A hint may break a tie between structures, never overrule a shape.

    `family` and `kind`: what the user says, which counts before all others; of kinds those of TAKEN.
    """

    repo_id: str | None = None
    filename: str | None = None
    card: Mapping[str, Any] | None = None  # model card front matter
    card_text: str | None = None
    sidecar: Mapping[str, Any] | None = None
    family: str | None = None
    kind: str | None = None


class Choice(NamedTuple):
    """One of the candidates that a user may choose from, by Hints of the same names."""

    family: str
    kind: str


def choices_of(candidates: Iterable[str]) -> tuple[Choice, ...]:
    """Of a Report's candidates; none where it cannot be said which one it is."""
    parts = (candidate.rpartition(" ") for candidate in candidates)
    choices = tuple(Choice(family, kind) for family, _, kind in parts)
    return choices if all(family and kind in TAKEN for family, kind in choices) else ()


@dataclass(frozen=True, slots=True)
class Report:
    outcome: Outcome
    reason: str
    kind: Kind | None = None
    family: str | None = None
    variant: str | None = None  # "normal", "inpaint", "depth", "edit", ...
    prediction_type: str | None = None  # "epsilon", "v_prediction", ..., or None: the file does not tell
    default_prediction_type: str | None = None  # the family's usual value, marked as a default
    format: str | None = None  # "safetensors", "gguf", "diffusers folder", "peft folder", ...
    layout: str | None = None  # "ldm", "diffusers", "kohya", "peft", "lycoris", ...
    rank: int | None = None
    candidates: tuple[
        str, ...
    ] = ()  # "FAMILY KIND": what fits alike, and what an identified model could be as well as its own, the first
    tags: tuple[str, ...] = ()
    traits: tuple[Trait, ...] = ()
    evidence: tuple[Evidence, ...] = field(default=())
    source: str | None = None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """`candidates`, for who has to say which one it is; none where that cannot be said."""
        return choices_of(self.candidates)

    @property
    def excluded(self) -> tuple[Evidence, ...]:
        """What the user says of it, and the shapes do not allow."""
        return tuple(evidence for evidence in self.evidence if evidence.rule == EXCLUDED)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready. The first twelve keys are a contract; others may come to follow them."""
        values = asdict(self)
        choices = [choice._asdict() for choice in self.choices]
        return {name: values[name] for name in _CONTRACT} | values | {"choices": choices}


_CONTRACT = (
    "source",
    "outcome",
    "kind",
    "family",
    "variant",
    "prediction_type",
    "format",
    "rank",
    "candidates",
    "traits",
    "evidence",
    "reason",
)
