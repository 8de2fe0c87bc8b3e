"""LTX Video: blocks of self- and cross-attention over T5 text (4096), of 2048 values in the 2B and 4096 in the 13B model."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Naming, Transformer, attention, checkpoint, lora, square
from probes.rules import Blocks, Has, Width, Without


def _naming(count: int, width: int, first: str, time: str) -> Naming:
    blocks = {
        "transformer_blocks": (count, {
            **square(width, *attention("attn1"), *attention("attn2")),
            "ff.net.0.proj": (width, 4 * width), "ff.net.2": (4 * width, width),
        }),
    }  # fmt: skip
    around = {
        first: (128, width), "proj_out": (width, 128), f"{time}.linear": (width, 6 * width),
        f"{time}.emb.timestep_embedder.linear_1": (256, width), f"{time}.emb.timestep_embedder.linear_2": (width, width),
        "caption_projection.linear_1": (4096, width), "caption_projection.linear_2": (width, width),
    }  # fmt: skip
    return Naming(blocks, around, beside="norm_q norm_k q_norm k_norm scale_shift_table")


_SIZES = {"2b": (28, 2048), "13b": (48, 4096)}
_VIDEO_ALONE = Without("av_ca_a2v_gate_adaln_single.linear.weight", "audio_patchify_proj.weight")

SIGNATURES = tuple(
    signature
    for variant, (count, width) in _SIZES.items()
    for original, diffusers in [
        (_naming(count, width, "patchify_proj", "adaln_single"), _naming(count, width, "proj_in", "time_embed"))
    ]
    for signature in (
        checkpoint(
            "ltx-video", "original", original,
            Has("patchify_proj.weight"), Width("transformer_blocks.0.attn1.to_q.weight", width),
            Width("caption_projection.linear_1.weight", 4096), Blocks("transformer_blocks", count), _VIDEO_ALONE, variant=variant,
        ),
        checkpoint(
            "ltx-video", "diffusers", diffusers,
            Has("time_embed.emb.timestep_embedder.linear_1.weight"), Width("proj_in.weight", 128),
            Width("transformer_blocks.0.attn1.to_q.weight", width), Width("caption_projection.linear_1.weight", 4096),
            Blocks("transformer_blocks", count), variant=variant,
        ),
        lora("ltx-video", Transformer(f"LTX Video {variant.upper()}", (original, diffusers)), Encoders()),
    )
)  # fmt: skip
