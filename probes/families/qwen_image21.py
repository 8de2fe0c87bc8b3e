"""Qwen-Image 2.1: 32 single-stream blocks of 4096 values with gated feed-forwards, all told the time by one modulation, over Qwen3-VL
text (4096)."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Naming, Transformer, attention, checkpoint, each, lora, square
from probes.rules import Blocks, Has, Width

WIDTH, MLP, TEXT = 4096, 12288, 4096

NAMING = Naming(
    {
        "transformer_blocks": (
            32,
            {
                **square(WIDTH, *attention("attn")), **each((WIDTH, MLP), "img_mlp.proj", "img_mlp.gate_layer"),
                "img_mlp.out": (MLP, WIDTH),
            },
        )
    },
    {
        "time_text_embed.timestep_embedder.linear_1": (256, WIDTH), "time_text_embed.timestep_embedder.linear_2": (WIDTH, WIDTH),
        "txt_in.in_layer": (TEXT, WIDTH), "txt_in.out_layer": (WIDTH, WIDTH), "img_in": (64, WIDTH), "modulation.1": (WIDTH, 4 * WIDTH),
        "norm_out.linear": (WIDTH, WIDTH), "proj_out": (WIDTH, 64),
    },
    "text_norm norm_q norm_k",
)  # fmt: skip

SIGNATURES = (
    checkpoint(
        "qwen-image-2.1", "diffusers", NAMING,
        Has("modulation.1.weight"), Width("txt_in.in_layer.weight", TEXT), Width("transformer_blocks.0.img_mlp.gate_layer.weight", WIDTH),
        Width("img_in.weight", 64), Blocks("transformer_blocks", 32),
    ),
    lora("qwen-image-2.1", Transformer("Qwen-Image 2.1", (NAMING,)), Encoders()),
)  # fmt: skip
