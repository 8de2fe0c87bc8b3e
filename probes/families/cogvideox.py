"""LoRAs of CogVideoX: blocks in which video and T5 text (4096) attend to each other through one attention, of 1920 values in the
2B and 3072 in the 5B model. Its checkpoints are in checkpoints.py."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Naming, Transformer, attention, each, lora, square

TIME = 512


def _naming(count: int, width: int) -> Naming:
    block = {
        **square(width, *attention("attn1")), **each((TIME, 6 * width), "norm1.linear", "norm2.linear"),
        "ff.net.0.proj": (width, 4 * width), "ff.net.2": (4 * width, width),
    }  # fmt: skip
    around = {
        "patch_embed.proj": (16, width), "patch_embed.text_proj": (4096, width),
        "time_embedding.linear_1": (width, TIME), "ofs_embedding.linear_1": (TIME, TIME),
        **square(TIME, "time_embedding.linear_2", "ofs_embedding.linear_2"),
        "norm_out.linear": (TIME, 2 * width), "proj_out": (width, 64),
    }  # fmt: skip
    return Naming({"transformer_blocks": (count, block)}, around)


SIGNATURES = tuple(
    lora("cogvideox", Transformer(f"CogVideoX {size}", (_naming(count, width),)), Encoders())
    for size, count, width in (("2B", 30, 1920), ("5B", 42, 3072))
)
