"""What is asked for, and what will really run: the values that recipes, backends and the API hand on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Origin(StrEnum):
    REQUESTED = "requested"
    USER = "user"
    RECOMMENDED = "recommended"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Sourced(Generic[T]):
    """A value and its provenance: `by` names who said so, in words for people."""

    value: T
    origin: Origin
    by: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one request may ask for: pictures, pixels on a side, characters of a prompt.

    4096 pixels have sixty times the area that sd-1 was trained on; beyond it a request only exhausts memory.
    """

    pictures: int = 16
    side: int = 4096
    prompt: int = 10_000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class AdapterRequest:
    """`text_weight`: for the text encoders alone; None: as `weight`."""

    model: str  # id or name
    weight: float | None = None
    text_weight: float | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a user asks for; None means: decide for me, and tell me."""

    checkpoint: str
    prompt: str
    negative_prompt: str = ""
    loras: tuple[AdapterRequest, ...] = ()
    steps: int | None = None
    cfg: float | None = None
    scheduler: str | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    n: int = 1
    image: bytes | None = None  # a picture file to start from
    strength: float | None = None  # 0: the picture stays, 1: nothing of it stays
    prediction_type: str | None = None


@dataclass(frozen=True, slots=True)
class PlannedAdapter:
    id: str
    name: str
    kind: str
    weight: Sourced[float]
    triggers: tuple[str, ...]
    text_weight: Sourced[float] | None = None  # of the text encoders, where it differs


@dataclass(frozen=True, slots=True)
class Borrowed:
    """`components` of the model `name` that the checkpoint runs with, having none itself. `digest`: SHA-256 of its bytes, else BLAKE3;
    None: nobody has hashed it yet."""

    id: str
    name: str
    digest: str | None
    components: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What will really run. Sizes in pixels; `seed` is the first picture's, the others count up from it.

    `notes` are hints, `warnings` say what contradicts a recipe or was taken for granted. `eta` None: the scheduler's own. `image`: SHA-256
    of the picture file that it starts from, with its `strength`; both None without one.
    """

    checkpoint: str
    checkpoint_name: str
    family: str
    adapters: tuple[PlannedAdapter, ...]
    prompt: str
    negative_prompt: str
    scheduler: Sourced[str]
    steps: Sourced[int]
    cfg: Sourced[float]
    seed: Sourced[int]
    width: Sourced[int]
    height: Sourced[int]
    n: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    eta: float | None = None
    strength: Sourced[float] | None = None
    image: str | None = None
    prediction_type: Sourced[str] | None = None
    borrowed: tuple[Borrowed, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """What a pipeline's configuration says that plans depend on. `origin`: whose it is. `scheduler` None: `scheduler_class` is unknown.
    `native_size`: width, height in pixels; both sides are multiples of `unit`."""

    origin: str
    scheduler: str | None
    scheduler_class: str
    native_size: tuple[int, int]
    unit: int = 8
