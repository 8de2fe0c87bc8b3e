"""Qwen-Image: 60 joint blocks of 3072 values, text from Qwen2.5-VL (3584)."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import JOINT, ROOTS, Naming, Transformer, attention, checkpoint, each, lora, square
from probes.report import Kind
from probes.rules import Blocks, Has, Width
from probes.signature import Signature

WIDTH, MLP = 3072, 12288

NAMING = Naming(
    {
        "transformer_blocks": (60, {
            **square(WIDTH, *attention("attn", *JOINT)), **each((WIDTH, 6 * WIDTH), "img_mod.1", "txt_mod.1"),
            **each((WIDTH, MLP), "img_mlp.net.0.proj", "txt_mlp.net.0.proj"), **each((MLP, WIDTH), "img_mlp.net.2", "txt_mlp.net.2"),
        }),
    },
    {
        "img_in": (64, WIDTH), "txt_in": (3584, WIDTH), "proj_out": (WIDTH, 64), "norm_out.linear": (WIDTH, 2 * WIDTH),
        "time_text_embed.timestep_embedder.linear_1": (256, WIDTH), "time_text_embed.timestep_embedder.linear_2": (WIDTH, WIDTH),
    },
    beside="txt_norm norm_q norm_k norm_added_q norm_added_k __index_timestep_zero__ addition_t_embedding",
)  # fmt: skip

_AROUND = (Width("txt_in.weight", 3584), Width("img_in.weight", 64), Blocks("transformer_blocks", 60))

SIGNATURES = (
    checkpoint(
        "qwen-image", "diffusers", NAMING,
        Has("transformer_blocks.0.img_mod.1.weight"), *_AROUND,
    ),
    Signature(
        Kind.CHECKPOINT, "qwen-image", "nunchaku",
        (Has("transformer_blocks.0.img_mod.1.qweight"), Has("transformer_blocks.0.attn.add_qkv_proj.qweight"), *_AROUND),
        ROOTS, prediction_type="flow",
    ),  # SVDQuant: four bits and a low-rank rest, attention fused
    lora("qwen-image", Transformer("Qwen-Image", (NAMING,)), Encoders(te=3584, text_encoder=3584)),
)  # fmt: skip
