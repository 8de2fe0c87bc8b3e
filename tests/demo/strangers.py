"""Repositories that people meet beside the starter: a LoRA of the real SD 1.5's size, and things that are not models."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Strangers:
    """Repository ids."""

    real_sd15_lora: str
    gated: str
    refused: tuple[str, ...]


def add_strangers(root: Path) -> Strangers:
    """Write them under `root` as <owner>/<repository>/ folders."""
    write(root / "somebody/sd15-detail/sd15-detail.safetensors", sd15_lora())
    write(root / "somebody/web-page/model.safetensors", b"<!DOCTYPE html><html><body>Sign in to download</body></html>")
    whole = sd15_lora()
    write(root / "somebody/cut-off/model.safetensors", whole[: len(whole) // 2])
    write(root / "somebody/pickle/model.ckpt", b"PK\x03\x04" + b"\0" * 64)
    write(root / "somebody/no-weights/README.md", b"# Coming soon\n")
    write(root / "somebody/gated/model.safetensors", whole)
    refused = tuple(f"somebody/{name}" for name in ("web-page", "cut-off", "pickle", "no-weights", "gated"))
    return Strangers("somebody/sd15-detail", "somebody/gated", refused)


def sd15_lora(rank: int = 4) -> bytes:
    """A kohya LoRA of zeros over the cross-attention of SD 1.5's first two down blocks, at their true widths, 320 and 640."""
    shapes: dict[str, list[int]] = {}
    for block, width in enumerate((320, 640)):
        for layer in range(2):
            stem = f"lora_unet_down_blocks_{block}_attentions_{layer}_transformer_blocks_0_attn2"
            for part, wide in (("to_q", width), ("to_k", 768), ("to_v", 768), ("to_out_0", width)):
                shapes[f"{stem}_{part}.lora_down.weight"] = [rank, wide]
                shapes[f"{stem}_{part}.lora_up.weight"] = [width, rank]
                shapes[f"{stem}_{part}.alpha"] = []
    metadata = {"ss_base_model_version": "sd_v1", "ss_network_module": "networks.lora", "ss_network_dim": str(rank)}
    return safetensors(shapes, metadata)


def open_lora(rank: int = 4) -> bytes:
    """Self-attention alone of the first two down blocks: SD 1 and SD 2 have the same, and nothing says which of them it is for."""
    return _attention("attn1", {0: 320, 1: 640}, {}, rank)


def look_alike_lora(rank: int = 4) -> bytes:
    """Attention alone of SDXL, and so of Kolors."""
    return _attention("attn2", {1: 640, 2: 1280}, {"to_k": 2048, "to_v": 2048}, rank)


def _attention(name: str, blocks: dict[int, int], inner: dict[str, int], rank: int) -> bytes:
    shapes: dict[str, list[int]] = {}
    for block, width in blocks.items():
        for layer in ("to_q", "to_k", "to_v", "to_out.0"):
            stem = f"unet.down_blocks.{block}.attentions.0.transformer_blocks.0.{name}.{layer}"
            shapes[f"{stem}.lora_A.weight"] = [rank, inner.get(layer, width)]
            shapes[f"{stem}.lora_B.weight"] = [width, rank]
    return safetensors(shapes, {})


def safetensors(shapes: dict[str, list[int]], metadata: dict[str, str]) -> bytes:
    """A safetensors file of fp16 zeros."""
    header: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * end


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
