"""The JSON of a diffusers folder: what must be known beside the tensors to run a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from probes import TensorSpec
from registry.backends.schedulers import scheduler_of
from registry.compatibility import checkpoint_tensors
from registry.errors import FileMissing, NotGenerable, UnusableFile

Json = Mapping[str, Any]


@dataclass(frozen=True)
class PipelineConfig:
    """The configurations of a Stable Diffusion folder's components, and where its tokenizer lies.

    A single-file checkpoint has none: it runs with those of a folder whose tensors have the same names and shapes (`fits`).
    """

    folder: Path
    unet: Json
    vae: Json
    text_encoder: Json
    scheduler_config: Json

    @classmethod
    def from_folder(cls, path: Path) -> PipelineConfig:
        """Reads a diffusers folder's JSON files; no weights.

        Raises FileMissing: a component's configuration is not there. UnusableFile: it is no JSON object. NotGenerable: the folder
        is of another pipeline than Stable Diffusion.
        """
        kind = _read(path / "model_index.json").get("_class_name")
        if kind != "StableDiffusionPipeline":
            raise NotGenerable(f"{path.name} is a {kind}; only StableDiffusionPipeline can be run.", pipeline=kind)
        if not (path / "tokenizer").is_dir():
            raise FileMissing(f"{path.name} has no tokenizer folder.", path=str(path / "tokenizer"))
        return cls(
            folder=path,
            unet=_read(path / "unet" / "config.json"),
            vae=_read(path / "vae" / "config.json"),
            text_encoder=_read(path / "text_encoder" / "config.json"),
            scheduler_config=_read(path / "scheduler" / "scheduler_config.json"),
        )

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer's files."""
        return self.folder / "tokenizer"

    @property
    def vae_scale(self) -> int:
        """Pixels per latent, each way: every VAE level but the last halves the picture."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def native_size(self) -> tuple[int, int]:
        """Width and height in pixels of the pictures that the checkpoint was trained on."""
        sample = self.unet["sample_size"]
        height, width = (sample, sample) if isinstance(sample, int) else sample
        return int(width) * self.vae_scale, int(height) * self.vae_scale

    @property
    def scheduler(self) -> str:
        """Canonical name of the scheduler that the checkpoint came with."""
        return scheduler_of(self.scheduler_config)

    @cached_property
    def _tensors(self) -> Mapping[str, tuple[int, ...]]:
        return {name: spec.shape for name, spec in checkpoint_tensors(self.folder).items()}

    def fits(self, tensors: Mapping[str, TensorSpec]) -> bool:
        """Whether a checkpoint with these canonical `tensors` runs with these configurations.

        True if the folder's own tensors have the same names and shapes. What leaves no trace in a shape (the number of attention heads,
        the prediction type) is not seen: compare families first.
        """
        return self._tensors == {name: spec.shape for name, spec in tensors.items()}


def _read(path: Path) -> Json:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileMissing(f"{path.parent.name}/{path.name} is missing.", path=str(path)) from None
    except ValueError as error:
        raise UnusableFile(f"{path.parent.name}/{path.name} is not JSON: {error}", path=str(path)) from error
    if not isinstance(content, dict):
        raise UnusableFile(f"{path.parent.name}/{path.name} is not a JSON object.", path=str(path))
    return content
