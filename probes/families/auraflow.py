"""AuraFlow: 4 joint and 32 single blocks of 3072 values over Pile-T5 text (2048)."""

from __future__ import annotations

from probes.families.transformer import checkpoint
from probes.rules import Blocks, Has, Width

SIGNATURES = (
    checkpoint(
        "auraflow",
        "original",
        Has("double_layers.0.attn.w1q.weight"),
        Width("cond_seq_linear.weight", 2048),
        Has("single_layers.0.attn.w1q.weight"),
    ),
    checkpoint(
        "auraflow",
        "diffusers",
        Has("joint_transformer_blocks.0.attn.add_q_proj.weight"),
        Width("context_embedder.weight", 2048),
        Blocks("joint_transformer_blocks", 4),
        Blocks("single_transformer_blocks", 32),
    ),
)
