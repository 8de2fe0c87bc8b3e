"""Generation backends: the port, and the values that go through it. An implementation is imported only when something is generated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image

    from registry.pipeline_config import PipelineConfig

OnStep = Callable[[int, int], None]
"""Called after every denoising step with (steps done, steps in all), over all pictures of the job."""


@dataclass(frozen=True, slots=True)
class CheckpointRef:
    """`path`: a diffusers folder or a single file. `digest` identifies its bytes. `config`: its own, or that of a folder that fits."""

    path: Path
    digest: str
    config: PipelineConfig


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """A LoRA file and the weight to run it at: 0 is off, 1 is as trained, negative is allowed. `name` is for messages.

    `text_weight`: for the text encoders, where it differs.
    """

    path: Path
    digest: str
    weight: float
    name: str
    text_weight: float | None = None


@dataclass(frozen=True, slots=True)
class GenerationJob:
    """Everything that decides the pictures.

    `width` and `height` in pixels. Picture i of `n` has the seed `seed + i`, and is the same picture whatever `n`. `cfg` of 1 or less: no
    guidance, one denoiser pass per step. `prediction_type` None: as the checkpoint's scheduler configuration says.
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


@dataclass(frozen=True, slots=True)
class Generated:
    """The pictures and their seeds. `timings` in seconds: `load`, `adapters`, `encode`, `denoise`, `decode`, `total`."""

    images: tuple[Image, ...]
    seeds: tuple[int, ...]
    timings: Mapping[str, float] = field(default_factory=dict)


class Backend(Protocol):
    def generate(self, job: GenerationJob, on_step: OnStep | None = None) -> Generated:
        """Runs one job; callable from any thread.

        Raises InvalidRequest (a value that cannot be run), IncompatibleAdapter (nothing was applied), NotGenerable, OutOfMemory,
        FileMissing, UnusableFile. After any of them the backend serves the next job as if nothing had happened.
        """
        ...
