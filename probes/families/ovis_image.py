"""Ovis-Image: FLUX.1's blocks with gated feed-forwards, 6 double and 27 single ones, over Ovis 2.5 text (2048)."""

from __future__ import annotations

from probes.adapter_rules import Covers, Encoders
from probes.families.flux1 import DIFFUSERS as FLUX1
from probes.families.flux1 import MLP, WIDTH
from probes.families.transformer import Naming, Transformer, checkpoint, each, lora
from probes.rules import Blocks, Claimed, Has, Width

_GATED = each((WIDTH, 2 * MLP), "ff.net.0.proj", "ff_context.net.0.proj")
NAMING = Naming(
    {
        "transformer_blocks": (6, {**FLUX1.blocks["transformer_blocks"][1], **_GATED}),
        "single_transformer_blocks": (27, {**FLUX1.blocks["single_transformer_blocks"][1], "proj_mlp": (WIDTH, 2 * MLP)}),
    },
    {
        "x_embedder": (64, WIDTH), "context_embedder": (2048, WIDTH), "proj_out": (WIDTH, 64), "norm_out.linear": (WIDTH, 2 * WIDTH),
        "timestep_embedder.linear_1": (256, WIDTH), "timestep_embedder.linear_2": (WIDTH, WIDTH),
    },
    f"{FLUX1.beside} context_embedder_norm",
)  # fmt: skip
OVIS = Transformer("Ovis-Image", (NAMING,))

SIGNATURES = (
    checkpoint(
        "ovis-image", "diffusers", NAMING,
        Has("timestep_embedder.linear_1.weight"), Width("transformer_blocks.0.attn.add_q_proj.weight", WIDTH),
        Width("context_embedder.weight", 2048), Blocks("transformer_blocks", 6), Blocks("single_transformer_blocks", 27),
    ),
    # Its attention is FLUX.1's: a LoRA is its own where it touches all that it has, or is said to be.
    *(lora("ovis-image", OVIS, Encoders(), rule) for rule in (Covers(OVIS), Claimed("ovis-image", "flux-1"))),
)  # fmt: skip
