"""NVIDIA Cosmos (Predict 1 and 2): blocks of self- and cross-attention over T5 text (1024), as NVIDIA and diffusers name them."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Layers, Naming, Transformer, attention, checkpoint, each, lora, square
from probes.rules import Blocks, Has, Width

TEXT, LOW = 1024, 256


def _naming(count: int, width: int) -> Naming:
    text = ("attn2.to_k", "attn2.to_v")
    block = {
        **square(width, *attention("attn1"), *attention("attn2")), **each((TEXT, width), *text),
        **each((width, LOW), "norm1.linear_1", "norm2.linear_1", "norm3.linear_1"),
        **each((LOW, 3 * width), "norm1.linear_2", "norm2.linear_2", "norm3.linear_2"),
        "ff.net.0.proj": (width, 4 * width), "ff.net.2": (4 * width, width),
    }  # fmt: skip
    around = {
        "patch_embed.proj": (68, width), "proj_out": (width, 64), "norm_out.linear_1": (width, LOW), "norm_out.linear_2": (LOW, 2 * width),
        "time_embed.t_embedder.linear_1": (width, width), "time_embed.t_embedder.linear_2": (width, 3 * width),
    }  # fmt: skip
    beside = "norm norm_q norm_k learnable_pos_embed pos_emb_t pos_emb_h pos_emb_w"
    return Naming({"transformer_blocks": (count, block)}, around, beside)


def _predict_1(count: int, width: int) -> Naming:
    attention = {
        **square(width, *(f"0.block.attn.to_{part}.0" for part in ("q", "k", "v", "out"))),
        **square(width, "1.block.attn.to_q.0", "1.block.attn.to_out.0"),
        **each((TEXT, width), "1.block.attn.to_k.0", "1.block.attn.to_v.0"),
    }  # fmt: skip
    feed = {"2.block.layer1": (width, 4 * width), "2.block.layer2": (4 * width, width)}
    modulation = {
        f"{part}.adaLN_modulation.{n}": (width, LOW) if n == 1 else (LOW, 3 * width)
        for part in range(3)
        for n in (1, 2)
    }
    block = {**attention, **feed, **modulation}
    blocks = {f"blocks.block{n}.blocks.{path}": widths for n in range(count) for path, widths in block.items()}
    beside = "attn to_q to_k norm affline_norm extra_pos_embedder pos_emb_h pos_emb_w pos_emb_t logvar pos_embedder seq dim_spatial_range"
    return Naming({}, {**blocks, **_around(width)}, f"{beside} dim_temporal_range")


def predict_2(count: int, width: int) -> Naming:
    """NVIDIA's own names of Predict 2."""
    block = {
        **square(width, *(f"{name}.{part}_proj" for name in ("self_attn", "cross_attn") for part in ("q", "k", "v", "output"))),
        **each((TEXT, width), "cross_attn.k_proj", "cross_attn.v_proj"), "mlp.layer1": (width, 4 * width), "mlp.layer2": (4 * width, width),
        **{
            f"adaln_modulation_{part}.{n}": (width, LOW) if n == 1 else (LOW, 3 * width)
            for part in ("self_attn", "cross_attn", "mlp") for n in (1, 2)
        },
    }  # fmt: skip
    beside = "q_norm k_norm t_embedding_norm adaln_modulation extra_pos_embedder pos_embedder seq dim_spatial_range dim_temporal_range"
    return Naming(
        {"blocks": (count, block)},
        _around(width),
        f"{beside} accum_image_sample_counter accum_iteration accum_train_in_hours",
    )


def _around(width: int) -> Layers:
    """Under NVIDIA's names; Predict 1 and 2 spell the modulation differently."""
    return {
        "x_embedder.proj.1": (68, width), "t_embedder.1.linear_1": (width, width), "t_embedder.1.linear_2": (width, 3 * width),
        "final_layer.linear": (width, 64), **each((width, LOW), *(f"final_layer.{name}_modulation.1" for name in ("adaLN", "adaln"))),
        **each((LOW, 2 * width), *(f"final_layer.{name}_modulation.2" for name in ("adaLN", "adaln"))),
    }  # fmt: skip


SIZES = {"2b": (28, 2048), "7b": (28, 4096), "14b": (36, 5120)}

SIGNATURES = tuple(
    signature
    for variant, (count, width) in SIZES.items()
    for naming, first, second in [(_naming(count, width), _predict_1(count, width), predict_2(count, width))]
    for signature in (
        checkpoint(
            "cosmos", "diffusers", naming,
            Has("time_embed.t_embedder.linear_1.weight"), Width("transformer_blocks.0.attn1.to_q.weight", width),
            Width("transformer_blocks.0.attn2.to_k.weight", TEXT), Blocks("transformer_blocks", count), variant=variant,
        ),
        checkpoint(
            "cosmos", "original", first,
            Has("blocks.block0.blocks.0.block.attn.to_q.0.weight"), Width("blocks.block0.blocks.0.block.attn.to_q.0.weight", width),
            Width("blocks.block0.blocks.1.block.attn.to_k.0.weight", TEXT), Blocks("blocks", count), variant=variant,
        ),
        checkpoint(
            "cosmos", "original", second,
            Has("blocks.0.adaln_modulation_cross_attn.1.weight"), Width("blocks.0.self_attn.q_proj.weight", width),
            Width("blocks.0.cross_attn.k_proj.weight", TEXT), Blocks("blocks", count), variant=variant,
        ),
        lora("cosmos", Transformer(f"Cosmos {variant.upper()}", (naming, first, second)), Encoders()),
    )
)  # fmt: skip
