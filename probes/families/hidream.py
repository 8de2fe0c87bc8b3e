"""HiDream-I1: 16 double and 32 single blocks of 2560 values with experts; text from CLIP, T5 and Llama."""

from __future__ import annotations

from probes.families.transformer import checkpoint
from probes.rules import Blocks, Has, Width

SIGNATURES = (
    checkpoint(
        "hidream", "diffusers",
        Has("double_stream_blocks.0.block.attn1.to_q_t.weight"), Width("double_stream_blocks.0.block.attn1.to_q.weight", 2560),
        Width("caption_projection.0.linear.weight", 4096), Blocks("double_stream_blocks", 16), Blocks("single_stream_blocks", 32),
    ),
)  # fmt: skip
