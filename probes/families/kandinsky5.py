"""LoRAs of Kandinsky 5: blocks over Qwen2.5-VL (3584) and CLIP-L text, of 1792 values (Lite), 2560 (of pictures) and 4096 (Pro). Its
checkpoints are in checkpoints.py; diffusers has the authors' names."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Layers, Naming, Transformer, lora, square


def _naming(count: int, width: int, time: int, channels: int) -> Naming:
    def block(modulation: str, *attentions: str) -> Layers:
        parts = ("to_query", "to_key", "to_value", "out_layer")
        return {
            **square(width, *(f"{name}.{part}" for name in attentions for part in parts)),
            f"{modulation}.out_layer": (time, 3 * (1 + len(attentions)) * width),
            "feed_forward.in_layer": (width, 4 * width), "feed_forward.out_layer": (4 * width, width),
        }  # fmt: skip

    return Naming(
        {
            "text_transformer_blocks": (2, block("text_modulation", "self_attention")),
            "visual_transformer_blocks": (count, block("visual_modulation", "self_attention", "cross_attention")),
        },
        {
            "time_embeddings.in_layer": (width, time), "time_embeddings.out_layer": (time, time),
            "text_embeddings.in_layer": (3584, width), "pooled_text_embeddings.in_layer": (768, time),
            "visual_embeddings.in_layer": (channels, width),
            "out_layer.modulation.out_layer": (time, 2 * width), "out_layer.out_layer": (width, 64),
        },
    )  # fmt: skip


VIDEO = 132
"""Channels of 2x2 latents: what is to be painted, what is there, and where."""

SIGNATURES = tuple(
    lora("kandinsky-5", Transformer(f"Kandinsky 5 {size}", (_naming(*widths),)), Encoders())
    for size, widths in {
        "Lite": (32, 1792, 512, VIDEO), "Image Lite": (50, 2560, 512, 64), "Pro": (60, 4096, 1024, VIDEO),
    }.items()
)  # fmt: skip
