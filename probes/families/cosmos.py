"""NVIDIA Cosmos (Predict 1 and 2): blocks of self- and cross-attention over T5 text (1024), as diffusers names them."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Naming, Transformer, attention, checkpoint, each, lora, square
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


_SIZES = {"2b": (28, 2048), "7b": (28, 4096), "14b": (36, 5120)}

SIGNATURES = tuple(
    signature
    for variant, (count, width) in _SIZES.items()
    for naming in [_naming(count, width)]
    for signature in (
        checkpoint(
            "cosmos", "diffusers", naming,
            Has("time_embed.t_embedder.linear_1.weight"), Width("transformer_blocks.0.attn1.to_q.weight", width),
            Width("transformer_blocks.0.attn2.to_k.weight", TEXT), Blocks("transformer_blocks", count), variant=variant,
        ),
        lora("cosmos", Transformer(f"Cosmos {variant.upper()}", (naming,)), Encoders()),
    )
)  # fmt: skip
