"""LoRAs of Mochi: 48 blocks of 3072 values for video and 1536 for T5 text (4096), whose last one reads the text and does not write
it. Its checkpoints are in checkpoints.py."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Layers, Naming, Transformer, attention, each, lora, square

COUNT, WIDTH, TEXT = 48, 3072, 1536


def _naming(blocks: str, block: Layers, text: Layers, last: Layers, around: Layers) -> Naming:
    """`text`: what all blocks but the last have for the text; `last`: what that one has instead."""
    writing = {f"{blocks}.{n}.{path}": widths for n in range(COUNT - 1) for path, widths in text.items()}
    reading = {f"{blocks}.{COUNT - 1}.{path}": widths for path, widths in last.items()}
    return Naming({blocks: (COUNT, block)}, {**writing, **reading, **around})


def _pooler(name: str) -> Layers:
    return {f"{name}.to_kv": (4096, 8192), f"{name}.to_q": (4096, 4096), f"{name}.to_out": (4096, WIDTH)}


DIFFUSERS = _naming(
    "transformer_blocks",
    {
        **square(WIDTH, *attention("attn1")), **each((TEXT, WIDTH), "attn1.add_q_proj", "attn1.add_k_proj", "attn1.add_v_proj"),
        "norm1.linear": (WIDTH, 4 * WIDTH), "ff.net.0.proj": (WIDTH, 16384), "ff.net.2": (8192, WIDTH),
    },
    {
        "attn1.to_add_out": (WIDTH, TEXT), "norm1_context.linear": (WIDTH, 4 * TEXT),
        "ff_context.net.0.proj": (TEXT, 8192), "ff_context.net.2": (4096, TEXT),
    },
    {"norm1_context.linear_1": (WIDTH, TEXT)},
    {
        "patch_embed.proj": (12, WIDTH), **_pooler("time_embed.pooler"), "time_embed.caption_proj": (4096, TEXT),
        "time_embed.timestep_embedder.linear_1": (256, WIDTH), "time_embed.timestep_embedder.linear_2": (WIDTH, WIDTH),
        "norm_out.linear": (WIDTH, 2 * WIDTH), "proj_out": (WIDTH, 48),
    },
)  # fmt: skip
ORIGINAL = _naming(
    "blocks",
    {
        "attn.qkv_x": (WIDTH, 3 * WIDTH), "attn.qkv_y": (TEXT, 3 * WIDTH), "attn.proj_x": (WIDTH, WIDTH),
        "mod_x": (WIDTH, 4 * WIDTH), "mlp_x.w1": (WIDTH, 16384), "mlp_x.w2": (8192, WIDTH),
    },
    {"attn.proj_y": (WIDTH, TEXT), "mod_y": (WIDTH, 4 * TEXT), "mlp_y.w1": (TEXT, 8192), "mlp_y.w2": (4096, TEXT)},
    {"mod_y": (WIDTH, TEXT)},
    {
        "x_embedder.proj": (12, WIDTH), **_pooler("t5_y_embedder"), "t5_yproj": (4096, TEXT),
        "t_embedder.mlp.0": (256, WIDTH), "t_embedder.mlp.2": (WIDTH, WIDTH),
        "final_layer.mod": (WIDTH, 2 * WIDTH), "final_layer.linear": (WIDTH, 48),
    },
)  # fmt: skip

SIGNATURES = (lora("mochi", Transformer("Mochi", (DIFFUSERS, ORIGINAL)), Encoders()),)
