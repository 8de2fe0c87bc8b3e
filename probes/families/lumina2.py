"""Lumina-Image 2: blocks of 2304 values with grouped keys, text from Gemma 2 (2304)."""

from __future__ import annotations

from probes.families.transformer import checkpoint
from probes.rules import Has, Width

SIGNATURES = (
    checkpoint("lumina-2", "original", Has("layers.0.attention.qkv.weight"), Width("cap_embedder.1.weight", 2304)),
    checkpoint(
        "lumina-2",
        "diffusers",
        Has("time_caption_embed.caption_embedder.1.weight"),
        Width("layers.0.attn.to_q.weight", 2304),
        Width("x_embedder.weight", 64),
    ),
)
