"""Models of given shapes, on disk and on record; what they are is said, not probed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import func, select

from registry.manager import Manager
from registry.models import Model
from registry.rows import FIT

Shapes = Mapping[str, tuple[int, ...]]

TO_Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
LAYERS = tuple(TO_Q.replace("to_q", name) for name in ("to_q", "to_k", "to_v"))
WEIGHTS = "diffusion_pytorch_model.safetensors"


def checkpoint_shapes(width: int) -> Shapes:
    return {f"{layer}.weight": (width, width) for layer in LAYERS}


def lora_shapes(width: int, layers: tuple[str, ...] = LAYERS, rank: int = 4) -> Shapes:
    down = {f"unet.{layer}.lora_A.weight": (rank, width) for layer in layers}
    return down | {f"unet.{layer}.lora_B.weight": (width, rank) for layer in layers}


def write_safetensors(path: Path, shapes: Shapes, dtype: str = "F16") -> None:
    size = {"F16": 2, "F32": 4}[dtype]
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + size * shape[0] * shape[1]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(at))


class Shelf:
    """`comparisons`: how often an adapter was held against a checkpoint, where the test counts."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.comparisons = 0

    def checkpoint(self, name: str, width: int, family: str = "sd-1") -> Model:
        write_safetensors(self.manager.settings.root / name / "unet" / WEIGHTS, checkpoint_shapes(width))
        return self.add(name, "checkpoint", family)

    def lora(self, name: str, shapes: Shapes, family: str = "sd-1", dtype: str = "F16") -> Model:
        write_safetensors(self.manager.settings.root / name, shapes, dtype)
        return self.add(name, "lora", family)

    def add(self, name: str, kind: str, family: str) -> Model:
        model = Model(id=name, name=name, kind=kind, family=family, format="safetensors", path=name, size=1)
        return self.manager.catalog.add(model, {})

    def verdicts(self, checkpoint: str, **options: bool) -> dict[str, tuple[bool, int, int]]:
        found = self.manager.matches.every_lora(checkpoint, **options)
        return {model.name: (fit.fits, fit.matched, fit.total) for model, fit in found}

    def rows(self) -> int:
        with self.manager.catalog.writing() as connection:
            return connection.execute(select(func.count()).select_from(FIT)).scalar_one()
