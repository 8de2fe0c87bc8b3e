"""Chroma: FLUX.1's blocks with one small network that makes all their modulations; no pooled text."""

from __future__ import annotations

from probes.families.flux1 import FLUX1
from probes.families.transformer import checkpoint
from probes.report import Kind
from probes.rules import AdapterOf, Blocks, Claimed, Encoders, Fits, Has, Width, Without
from probes.signature import Signature

SIGNATURES = (
    checkpoint(
        "chroma",
        "bfl",
        Has("distilled_guidance_layer.in_proj.weight"),
        Width("double_blocks.0.img_attn.qkv.weight", 3072),
        Without("vector_in.in_layer.weight"),
        Blocks("double_blocks", 19),
        Blocks("single_blocks", 38),
    ),
    checkpoint(
        "chroma",
        "diffusers",
        Has("distilled_guidance_layer.in_proj.weight"),
        Width("transformer_blocks.0.attn.add_q_proj.weight", 3072),
        Blocks("transformer_blocks", 19),
        Blocks("single_transformer_blocks", 38),
    ),
    # The layers that Chroma shares with FLUX.1 have the same names and shapes, so its LoRAs have to be said to be Chroma's.
    Signature(
        Kind.LORA, "chroma", None, (AdapterOf(), Fits(FLUX1), Encoders(te3=4096, text_encoder=4096), Claimed("chroma"))
    ),
)
