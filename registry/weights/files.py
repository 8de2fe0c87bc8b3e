"""Which files of a model hold its tensors: of a checkpoint component by component, of an adapter the one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from probes import choose_weights
from registry.errors import FileMissing, NotGenerable, UnusableFile
from registry.sources import relative_path
from registry.weights.names import COMPONENTS

_STEMS = ("diffusion_pytorch_model", "model")
"""diffusers' and transformers' names for a component's weights."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """`component` None: a single-file checkpoint, which holds them all."""

    component: str | None
    path: Path


@dataclass(frozen=True, slots=True)
class Lent:
    """`components` of another model, which a file without them runs with. `path` and `managed` as a checkpoint's; `digest` identifies the
    other's bytes; `id` and `name` are the other's on the shelf; `known_by`: SHA-256 or BLAKE3 of its bytes, if they have been hashed."""

    id: str
    name: str
    path: Path
    digest: str
    components: frozenset[str]
    managed: bool = False
    known_by: str | None = None

    def lends(self, tensor: str) -> bool:
        """Whether the tensor of that canonical name is of its components."""
        return tensor.partition(".")[0] in self.components


def weight_files(checkpoint: Path) -> tuple[WeightFile, ...]:
    """The safetensors files of a diffusers folder or of a single file, component by component.

    In a folder the unmarked file wins over variants (`.fp16.`), and a whole file over shards.

    Raises FileMissing: there is no such file or folder. NotGenerable: a component has no safetensors file.
    """
    if checkpoint.is_file():
        return (WeightFile(None, checkpoint),)
    if not checkpoint.is_dir():
        raise FileMissing(f"There is no checkpoint at {checkpoint}.", path=str(checkpoint))
    found = [
        WeightFile(component, path)
        for component in COMPONENTS
        if (checkpoint / component).is_dir()
        for path in _component_files(checkpoint / component)
    ]
    if not found:
        raise NotGenerable(f"{checkpoint} has none of the folders {', '.join(COMPONENTS)}.", path=str(checkpoint))
    return tuple(found)


def gone(path: Path) -> FileMissing:
    """The error for a file that was there when the work began."""
    return FileMissing(f"{path} was moved or deleted while it was read.", path=str(path))


def adapter_file(adapter: Path) -> Path:
    """The file of an adapter's tensors: itself, or the one in a PEFT folder, beside its adapter_config.json.

    Raises UnusableFile: the folder holds none, or several.
    """
    if not adapter.is_dir():
        return adapter
    found = choose_weights(sorted(path.name for path in adapter.iterdir()))
    if len(found) != 1:
        raise UnusableFile(f"{adapter} is no folder of one adapter: it holds {len(found)} weight files.")
    return adapter / found[0]


def _component_files(folder: Path) -> list[Path]:
    for stem in _STEMS:
        if (whole := folder / f"{stem}.safetensors").is_file():
            return [whole]
        for index in (
            folder / f"{stem}.safetensors.index.json",
            *sorted(folder.glob(f"{stem}.safetensors.index.*.json")),
        ):
            if index.is_file():
                return [folder / name for name in _shards(index)]
        if variants := [path for path in sorted(folder.glob(f"{stem}.*.safetensors")) if "non_ema" not in path.name]:
            return variants[:1]
    raise NotGenerable(f"{folder} has no safetensors weights; pickled ones are not read.", path=str(folder))


def _shards(index: Path) -> list[str]:
    """File names in a weight index, which is somebody's file: one that leads out of its folder is refused."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return [relative_path(name) for name in names]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableFile(f"{index.name} is no index of weights: {error}", path=str(index)) from error
