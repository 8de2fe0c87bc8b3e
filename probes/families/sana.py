"""LoRAs of Sana: linear attention and convolutions over Gemma-2 text (2304), of 1152 values (0.6B) and 2240 (1.6B and 4.8B). Its
checkpoints are in checkpoints.py. The smallest's attention is that of PixArt."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Naming, Transformer, attention, each, lora, square


def _naming(count: int, width: int) -> Naming:
    inner = 5 * width  # a gate and what it lets through
    block = {
        **square(width, *attention("attn1"), *attention("attn2")),
        "ff.conv_inverted": (width, inner), "ff.conv_depth": (inner, inner), "ff.conv_point": (inner // 2, width),
    }  # fmt: skip
    embedders = ("emb.timestep_embedder", "timestep_embedder", "guidance_embedder")  # the last two in Sana-Sprint
    around = {
        "patch_embed.proj": (32, width), "proj_out": (width, 32), "time_embed.linear": (width, 6 * width),
        **each((256, width), *(f"time_embed.{name}.linear_1" for name in embedders)),
        **square(width, *(f"time_embed.{name}.linear_2" for name in embedders)),
        "caption_projection.linear_1": (2304, width), "caption_projection.linear_2": (width, width),
    }  # fmt: skip
    return Naming({"transformer_blocks": (count, block)}, around)


SIGNATURES = tuple(
    lora("sana", Transformer(f"Sana {size}", (_naming(count, width),)), Encoders())
    for size, count, width in (("0.6B", 28, 1152), ("1.6B", 20, 2240), ("4.8B", 60, 2240))
)
