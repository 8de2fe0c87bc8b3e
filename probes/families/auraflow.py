"""AuraFlow: 4 joint and 32 single blocks of 3072 values over Pile-T5 text (2048)."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import JOINT, Naming, Transformer, attention, checkpoint, each, lora, square
from probes.rules import Blocks, Has, Width

WIDTH, MLP = 3072, 8192

_FEED_DIFFUSERS = {**each((WIDTH, MLP), "linear_1", "linear_2"), "out_projection": (MLP, WIDTH)}
DIFFUSERS = Naming(
    {
        "joint_transformer_blocks": (4, {
            **each((WIDTH, 6 * WIDTH), "norm1.linear", "norm1_context.linear"),
            **square(WIDTH, *attention("attn", *JOINT)),
            **{f"{ff}.{part}": widths for ff in ("ff", "ff_context") for part, widths in _FEED_DIFFUSERS.items()},
        }),
        "single_transformer_blocks": (32, {
            "norm1.linear": (WIDTH, 6 * WIDTH), **square(WIDTH, *attention("attn")),
            **{f"ff.{part}": widths for part, widths in _FEED_DIFFUSERS.items()},
        }),
    },
    {
        "pos_embed.proj": (16, WIDTH), "context_embedder": (2048, WIDTH), "proj_out": (WIDTH, 16),
        "time_step_proj.linear_1": (256, WIDTH), "time_step_proj.linear_2": (WIDTH, WIDTH), "norm_out.linear": (WIDTH, 2 * WIDTH),
    },
    beside="register_tokens",
)  # fmt: skip
_FEED = {**each((WIDTH, MLP), "c_fc1", "c_fc2"), "c_proj": (MLP, WIDTH)}
ORIGINAL = Naming(
    {
        "double_layers": (4, {
            **each((WIDTH, 6 * WIDTH), "modC.1", "modX.1"), **square(WIDTH, *(f"attn.w{n}{p}" for n in "12" for p in "qkvo")),
            **{f"{ff}.{part}": widths for ff in ("mlpC", "mlpX") for part, widths in _FEED.items()},
        }),
        "single_layers": (32, {
            "modCX.1": (WIDTH, 6 * WIDTH), **square(WIDTH, *(f"attn.w1{p}" for p in "qkvo")),
            **{f"mlp.{part}": widths for part, widths in _FEED.items()},
        }),
    },
    {
        "init_x_linear": (16, WIDTH), "cond_seq_linear": (2048, WIDTH), "final_linear": (WIDTH, 16), "modF.1": (WIDTH, 2 * WIDTH),
        "t_embedder.mlp.0": (256, WIDTH), "t_embedder.mlp.2": (WIDTH, WIDTH),
    },
    beside="register_tokens positional_encoding",
)  # fmt: skip

SIGNATURES = (
    checkpoint(
        "auraflow", "original", ORIGINAL,
        Has("double_layers.0.attn.w1q.weight"), Width("cond_seq_linear.weight", 2048), Has("single_layers.0.attn.w1q.weight"),
        Blocks("double_layers", 4), Blocks("single_layers", 32),
    ),
    checkpoint(
        "auraflow", "diffusers", DIFFUSERS,
        Has("joint_transformer_blocks.0.attn.add_q_proj.weight"), Width("context_embedder.weight", 2048),
        Blocks("joint_transformer_blocks", 4), Blocks("single_transformer_blocks", 32),
    ),
    lora("auraflow", Transformer("AuraFlow", (ORIGINAL, DIFFUSERS)), Encoders(text_encoder=2048)),
)  # fmt: skip
