"""Ideogram 4: 34 blocks of 4608 values over thirteen layers of Qwen3-VL text (4096 each)."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Layers, Naming, Transformer, attention, checkpoint, each, lora, square
from probes.rules import Blocks, Has, Width

WIDTH, MLP, MODULATION, TEXT = 4608, 12288, 512, 13 * 4096


def _naming(attention: Layers) -> Naming:
    block = {
        **attention, **each((WIDTH, MLP), "feed_forward.w1", "feed_forward.w3"), "feed_forward.w2": (MLP, WIDTH),
        "adaln_modulation": (MODULATION, 4 * WIDTH),
    }  # fmt: skip
    around = {
        "input_proj": (128, WIDTH), "llm_cond_proj": (TEXT, WIDTH), **square(WIDTH, "t_embedding.mlp_in", "t_embedding.mlp_out"),
        "adaln_proj": (WIDTH, MODULATION), "final_layer.adaln_modulation": (MODULATION, WIDTH), "final_layer.linear": (WIDTH, 128),
    }  # fmt: skip
    beside = "llm_cond_norm embed_image_indicator norm_q norm_k attention_norm1 attention_norm2 ffn_norm1 ffn_norm2"
    return Naming({"layers": (34, block)}, around, beside)


ORIGINAL = _naming({"attention.qkv": (WIDTH, 3 * WIDTH), "attention.o": (WIDTH, WIDTH)})
DIFFUSERS = _naming(square(WIDTH, *attention("attention")))

SIGNATURES = (
    *(
        checkpoint(
            "ideogram-4", layout, naming,
            Has(f"layers.0.attention.{first}.weight"), Width("llm_cond_proj.weight", TEXT),
            Width(f"layers.0.attention.{first}.weight", WIDTH), Blocks("layers", 34),
        )
        for layout, naming, first in (("original", ORIGINAL, "qkv"), ("diffusers", DIFFUSERS, "to_q"))
    ),
    lora("ideogram-4", Transformer("Ideogram 4", (ORIGINAL, DIFFUSERS)), Encoders()),
)  # fmt: skip
