"""Files for scans: a LoRA for sd-1 in a few kB, told from others by its rank or its metadata."""

from __future__ import annotations

import os
from pathlib import Path

from registry.manager import Manager
from registry.models import Model
from registry.scans.scanner import Counts
from tests.demo.strangers import safetensors

WIDTH = 320  # of sd-1's first level; cross attention reads 768 features
LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def lora(title: str = "", rank: int = 1, **metadata: str) -> bytes:
    shapes = {f"{LAYER}.lora_down.weight": [rank, 768], f"{LAYER}.lora_up.weight": [WIDTH, rank], f"{LAYER}.alpha": [1]}
    return safetensors(shapes, {"ss_base_model_version": "sd_v1", "modelspec.title": title, **metadata})


class Library:
    """A folder that belongs to the user, and the manager that scans it."""

    def __init__(self, folder: Path, manager: Manager) -> None:
        self.folder = folder
        self.manager = manager
        folder.mkdir()

    def put(self, name: str, data: bytes | None = None) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lora(name) if data is None else data)
        return path

    def scan(self, **options: bool) -> dict[str, int]:
        """The counts that are not zero."""
        counts: Counts = self.manager.scans.scan(self.folder, **options)
        return {name: count for name, count in counts.as_dict().items() if count}

    def hash(self) -> list[str]:
        return [model.name for model in self.manager.scans.digester.hash_all()]

    def names(self) -> list[str]:
        return [model.name for model in self.manager.catalog.every()]

    def model(self, name: str) -> Model:
        return self.manager.catalog.get(name)

    def tree(self) -> dict[str, tuple[int, int]]:
        """Every file with its size and time: what a scan must leave alone."""
        return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in self.folder.rglob("*")}


def touch_later(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
