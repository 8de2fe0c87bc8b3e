"""LongCat-Image: FLUX.1's blocks, 10 double and 20 single ones, over Qwen2.5-VL text (3584); no pooled text, no guidance."""

from __future__ import annotations

from probes.adapter_rules import Covers, Encoders
from probes.families.flux1 import DIFFUSERS as FLUX1
from probes.families.flux1 import WIDTH
from probes.families.transformer import Naming, Transformer, checkpoint, lora
from probes.rules import Blocks, Claimed, Has, Width

NAMING = Naming(
    {prefix: (count, FLUX1.blocks[prefix][1]) for prefix, count in (("transformer_blocks", 10), ("single_transformer_blocks", 20))},
    {
        "x_embedder": (64, WIDTH), "context_embedder": (3584, WIDTH), "proj_out": (WIDTH, 64), "norm_out.linear": (WIDTH, 2 * WIDTH),
        "time_embed.timestep_embedder.linear_1": (256, WIDTH), "time_embed.timestep_embedder.linear_2": (WIDTH, WIDTH),
    },
    FLUX1.beside,
)  # fmt: skip
LONGCAT = Transformer("LongCat-Image", (NAMING,))

SIGNATURES = (
    checkpoint(
        "longcat-image", "diffusers", NAMING,
        Has("time_embed.timestep_embedder.linear_1.weight"), Width("transformer_blocks.0.attn.add_q_proj.weight", WIDTH),
        Width("context_embedder.weight", 3584), Blocks("transformer_blocks", 10), Blocks("single_transformer_blocks", 20),
    ),
    # Its layers are FLUX.1's first ones: a LoRA is its own where it touches all that it has, or is said to be.
    *(lora("longcat-image", LONGCAT, Encoders(), rule) for rule in (Covers(LONGCAT), Claimed("longcat-image", "flux-1"))),
)  # fmt: skip
