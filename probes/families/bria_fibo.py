"""Bria FIBO: FLUX.1's blocks, 8 double and 38 single ones, each told another layer of SmolLM3 text (2048)."""

from __future__ import annotations

from probes.adapter_rules import Covers, Encoders
from probes.families.flux1 import DIFFUSERS as FLUX1
from probes.families.flux1 import WIDTH
from probes.families.transformer import Naming, Transformer, checkpoint, lora
from probes.rules import Blocks, Claimed, Has, Width

NAMING = Naming(
    {
        **{prefix: (count, FLUX1.blocks[prefix][1]) for prefix, count in (("transformer_blocks", 8), ("single_transformer_blocks", 38))},
        "caption_projection": (46, {"linear": (2048, WIDTH // 2)}),
    },
    {
        "x_embedder": (48, WIDTH), "context_embedder": (4096, WIDTH), "proj_out": (WIDTH, 48), "norm_out.linear": (WIDTH, 2 * WIDTH),
        "time_embed.timestep_embedder.linear_1": (256, WIDTH), "time_embed.timestep_embedder.linear_2": (WIDTH, WIDTH),
    },
    FLUX1.beside,
)  # fmt: skip
FIBO = Transformer("Bria FIBO", (NAMING,))

SIGNATURES = (
    checkpoint(
        "bria-fibo", "diffusers", NAMING,
        Has("caption_projection.0.linear.weight"), Width("transformer_blocks.0.attn.add_q_proj.weight", WIDTH),
        Width("context_embedder.weight", 4096), Blocks("transformer_blocks", 8), Blocks("single_transformer_blocks", 38),
    ),
    # Its layers are FLUX.1's: a LoRA is its own where it touches all that it has, or is said to be.
    *(lora("bria-fibo", FIBO, Encoders(), rule) for rule in (Covers(FIBO), Claimed("bria-fibo", "flux-1"))),
)  # fmt: skip
