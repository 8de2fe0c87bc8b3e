"""Hunyuan-DiT: 40 blocks of 1408 values with skips between its halves, over a Chinese CLIP (1024) and mT5 (2048)."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Naming, Transformer, attention, checkpoint, each, lora, square
from probes.rules import Blocks, Has, Width

WIDTH, MLP, TEXT, T5 = 1408, 6144, 1024, 2048


def _naming(meta: int) -> Naming:
    """`meta`: width of what is told beside the text; version 1.2 leaves out style and picture size."""
    block = {
        **square(WIDTH, "norm1.linear", *attention("attn1"), "attn2.to_q", "attn2.to_out.0"),
        **each((TEXT, WIDTH), "attn2.to_k", "attn2.to_v"), "ff.net.0.proj": (WIDTH, MLP), "ff.net.2": (MLP, WIDTH),
    }  # fmt: skip
    around = {
        **each((2 * WIDTH, WIDTH), *(f"blocks.{n}.skip_linear" for n in range(21, 40))),
        "text_embedder.linear_1": (T5, 4 * T5), "text_embedder.linear_2": (4 * T5, TEXT),
        "time_extra_emb.timestep_embedder.linear_1": (256, WIDTH), "time_extra_emb.timestep_embedder.linear_2": (WIDTH, WIDTH),
        **square(T5, *(f"time_extra_emb.pooler.{part}_proj" for part in "qkv")), "time_extra_emb.pooler.c_proj": (T5, TEXT),
        "time_extra_emb.extra_embedder.linear_1": (meta, 4 * WIDTH), "time_extra_emb.extra_embedder.linear_2": (4 * WIDTH, WIDTH),
        "pos_embed.proj": (4, WIDTH), "norm_out.linear": (WIDTH, 2 * WIDTH), "proj_out": (WIDTH, 32),
    }  # fmt: skip
    beside = "norm1 norm2 norm3 norm norm_q norm_k skip_norm style_embedder text_embedding_padding positional_embedding"
    return Naming({"blocks": (40, block)}, around, beside)


ORIGINAL = Naming(
    {
        "blocks": (40, {
            "attn1.Wqkv": (WIDTH, 3 * WIDTH), **square(WIDTH, "attn1.out_proj", "attn2.q_proj", "attn2.out_proj", "default_modulation.1"),
            "attn2.kv_proj": (TEXT, 2 * WIDTH), "mlp.fc1": (WIDTH, MLP), "mlp.fc2": (MLP, WIDTH),
        }),
    },
    {
        **each((2 * WIDTH, WIDTH), *(f"blocks.{n}.skip_linear" for n in range(21, 40))),
        "mlp_t5.0": (T5, 4 * T5), "mlp_t5.2": (4 * T5, TEXT), "t_embedder.mlp.0": (256, WIDTH), "t_embedder.mlp.2": (WIDTH, WIDTH),
        **square(T5, *(f"pooler.{part}_proj" for part in "qkv")), "pooler.c_proj": (T5, TEXT), "x_embedder.proj": (4, WIDTH),
        "extra_embedder.2": (4 * WIDTH, WIDTH), "final_layer.linear": (WIDTH, 32), "final_layer.adaLN_modulation.1": (WIDTH, 2 * WIDTH),
    },
    beside="norm1 norm2 norm3 q_norm k_norm skip_norm style_embedder text_embedding_padding positional_embedding",
)  # fmt: skip

_VERSIONS = {"1.1": 3968, "1.2": 1024}

SIGNATURES = tuple(
    signature
    for version, meta in _VERSIONS.items()
    for naming in [_naming(meta)]
    for signature in (
        checkpoint(
            "hunyuan-dit", "diffusers", naming,
            Has("blocks.39.skip_linear.weight"), Width("blocks.0.attn2.to_k.weight", TEXT), Width("blocks.0.attn1.to_q.weight", WIDTH),
            Width("time_extra_emb.extra_embedder.linear_1.weight", meta), Blocks("blocks", 40),
            variant=version, prediction_type="v_prediction",
        ),
        checkpoint(
            "hunyuan-dit", "original", ORIGINAL,
            Has("blocks.0.attn1.Wqkv.weight"), Width("blocks.0.attn1.Wqkv.weight", WIDTH), Width("mlp_t5.0.weight", T5),
            Width("extra_embedder.0.weight", meta), Blocks("blocks", 40), variant=version, prediction_type="v_prediction",
        ),
        lora("hunyuan-dit", Transformer(f"Hunyuan-DiT {version}", (naming,)), Encoders()),
    )
)  # fmt: skip
