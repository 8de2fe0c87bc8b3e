"""Generation backends: the port, and the values that go through it. An implementation is imported only when something is generated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from registry.holders import Holder
from registry.weights.files import Lent

if TYPE_CHECKING:
    from PIL.Image import Image

    from registry.pipeline_config import PipelineConfig


@dataclass(frozen=True, slots=True)
class Step:
    """A denoising step that has ended: `done` of `total` over all passes of the job; where memory is short, passes are added on the way.

    `preview()` makes a small RGB picture of each picture that is being denoised, from its latents; it costs something only when called, and
    may be called only before `OnStep` returns.
    """

    done: int
    total: int
    preview: Callable[[], tuple[Image, ...]]


OnStep = Callable[[Step], None]
"""Called after every denoising step. What it raises ends the generation: that is how one is cancelled."""


@dataclass(frozen=True, slots=True)
class CheckpointRef:
    """`path`: a diffusers folder or a single file. `digest` identifies its bytes. `config`: its own, its family's, or that of a folder
    that fits. `name` is for people. `managed`: nobody but modelshelf writes to its files, so that they may be mapped. `lent`: components
    that it does not have itself."""

    path: Path
    digest: str
    config: PipelineConfig
    name: str = ""
    managed: bool = False
    lent: tuple[Lent, ...] = ()

    @property
    def weights(self) -> str:
        """Identifies all the weights that it runs with; begins with its own digest and a colon."""
        return f"{self.digest}:" + "+".join(f"{other.digest} {sorted(other.components)}" for other in self.lent)


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """A LoRA file and the weight to run it at: 0 is off, 1 is as trained, negative is allowed. `name` is for messages.

    `text_weight`: for the text encoders, where it differs. `managed`: as a checkpoint's.
    """

    path: Path
    digest: str
    weight: float
    name: str
    text_weight: float | None = None
    managed: bool = False


@dataclass(frozen=True, slots=True)
class GenerationJob:
    """Everything that decides the pictures.

    `width` and `height` in pixels. Picture i of `n` has the seed `seed + i`. `cfg` of 1 or less: no guidance, one denoiser pass per step.
    `prediction_type` None: as the checkpoint's scheduler configuration says. `eta` None: the scheduler's own. `image`: RGB, of any size;
    the last `strength` (0..1) of the steps run from it on. `holder`: who is said to work with what is loaded for it; once it wants
    nothing any more, loading is given up between two tensors. A backend that has to wait tells it what for.
    """

    checkpoint: CheckpointRef
    prompt: str
    scheduler: str
    steps: int
    cfg: float
    seed: int
    width: int
    height: int
    adapters: tuple[AdapterRef, ...] = ()
    negative_prompt: str = ""
    n: int = 1
    prediction_type: str | None = None
    eta: float | None = None
    image: Image | None = None
    strength: float = 1.0
    holder: Holder = field(default_factory=lambda: Holder("a generation"))


@dataclass(frozen=True, slots=True)
class Generated:
    """The pictures and their seeds. `timings` in seconds: `load`, `adapters`, `wait`, `encode`, `denoise`, `decode`, `total`.

    `warnings`: what the user should know and would not see, such as a prompt that was cut.
    """

    images: tuple[Image, ...]
    seeds: tuple[int, ...]
    timings: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tier:
    """One kind of memory that weights lie in. Sizes in bytes."""

    name: str
    device: str
    budget: int
    used: int


@dataclass(frozen=True, slots=True)
class Resident:
    """Something that is loaded: a checkpoint with what it wears, or an adapter's factors. `idle` in seconds, 0 while somebody holds it."""

    tier: str
    digest: str
    name: str
    nbytes: int
    holders: tuple[str, ...]
    idle: float


@dataclass(frozen=True, slots=True)
class Residents:
    tiers: tuple[Tier, ...] = ()
    models: tuple[Resident, ...] = ()


@runtime_checkable
class Keeper(Protocol):
    """What a backend has besides if it keeps weights loaded between generations."""

    def residents(self) -> Residents: ...

    def load(self, checkpoint: CheckpointRef, holder: Holder) -> None:
        """For whoever `holder` is, as long as he wants it. Raises as `Backend.generate`."""
        ...

    def evict(self, digest: str) -> None:
        """Out of every tier. Raises NotResident; WrongState: it is in use."""
        ...


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What every backend is made with. `device` and `dtype`: torch's names, or `auto`. `budget_bytes` for resident weights, `host_bytes`
    for those that had to leave the device, `keep_alive` in seconds for those that nobody uses, and `batch`, the most pictures in one
    pass; None: the backend decides. `compile`: the compiler for the denoiser, by torch's name; None: it runs as it is."""

    device: str = "auto"
    dtype: str = "auto"
    budget_bytes: int | None = None
    host_bytes: int | None = None
    keep_alive: float | None = None
    batch: int | None = None
    compile: str | None = None


@runtime_checkable
class Backend(Protocol):
    """Whatever generates. The class, or any callable, that the setting `backend` names is called with BackendOptions and gives one."""

    def generate(self, job: GenerationJob, on_step: OnStep | None = None) -> Generated:
        """Runs one job; callable from any thread, also while one that was cancelled before its first step still runs.

        Raises InvalidRequest (a value that cannot be run), IncompatibleAdapter (nothing was applied), NotGenerable, OutOfMemory,
        FileMissing, UnusableFile, Cancelled (its holder wants it no longer), and whatever `on_step` raises. After any of them the backend
        serves the next job as if nothing had happened.
        """
        ...
