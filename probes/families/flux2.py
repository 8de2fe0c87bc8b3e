"""FLUX.2: modulation shared by all blocks, text from a vision-language model; dev and the two sizes of klein."""

from __future__ import annotations

from collections.abc import Mapping

from probes.adapter_rules import Encoders
from probes.families.transformer import JOINT, Naming, Transformer, attention, checkpoint, each, lora, square
from probes.rules import Blocks, Has, Width


def _bfl(width: int, text: int, double: int, single: int) -> Naming:
    streams = {
        f"{stream}_{path}": widths
        for stream in ("img", "txt")
        for path, widths in {
            "attn.qkv": (width, 3 * width), "attn.proj": (width, width), "mlp.0": (width, 6 * width), "mlp.2": (3 * width, width),
        }.items()
    }  # fmt: skip
    around = {
        "img_in": (128, width), "txt_in": (text, width), "final_layer.linear": (width, 128),
        **each((256, width), "time_in.in_layer", "guidance_in.in_layer"), **square(width, "time_in.out_layer", "guidance_in.out_layer"),
        **each((width, 6 * width), "double_stream_modulation_img.lin", "double_stream_modulation_txt.lin"),
        "single_stream_modulation.lin": (width, 3 * width), "final_layer.adaLN_modulation.1": (width, 2 * width),
    }  # fmt: skip
    blocks = {
        "double_blocks": (double, streams),
        "single_blocks": (single, {"linear1": (width, 9 * width), "linear2": (4 * width, width)}),
    }
    return Naming(blocks, around, beside="norm query_norm key_norm scale")


def _diffusers(width: int, text: int, double: int, single: int) -> Naming:
    joint = {
        **square(width, *attention("attn", *JOINT)),
        **each((width, 6 * width), "ff.linear_in", "ff_context.linear_in"),
        **each((3 * width, width), "ff.linear_out", "ff_context.linear_out"),
    }
    around = {
        "x_embedder": (128, width), "context_embedder": (text, width), "proj_out": (width, 128), "norm_out.linear": (width, 2 * width),
        **{
            f"time_guidance_embed.{embedder}.linear_{n}": ((256 if n == 1 else width), width)
            for embedder in ("timestep_embedder", "guidance_embedder") for n in (1, 2)
        },
        **each((width, 6 * width), "double_stream_modulation_img.linear", "double_stream_modulation_txt.linear"),
        "single_stream_modulation.linear": (width, 3 * width),
    }  # fmt: skip
    fused = {"attn.to_qkv_mlp_proj": (width, 9 * width), "attn.to_out": (4 * width, width)}
    blocks = {"transformer_blocks": (double, joint), "single_transformer_blocks": (single, fused)}
    return Naming(blocks, around, beside="norm_q norm_k norm_added_q norm_added_k")


_SIZES: Mapping[str, tuple[int, int, int, int]] = {
    # variant: width, width of the text, double and single blocks
    "dev": (6144, 15360, 8, 48), "klein-4b": (3072, 7680, 5, 20), "klein-9b": (4096, 12288, 8, 24),
}  # fmt: skip

SIGNATURES = tuple(
    signature
    for variant, (width, text, double, single) in _SIZES.items()
    for bfl, diffusers in [(_bfl(width, text, double, single), _diffusers(width, text, double, single))]
    for signature in (
        checkpoint(
            "flux-2", "bfl", bfl,
            Has("double_stream_modulation_img.lin.weight"), Width("double_stream_modulation_img.lin.weight", width),
            Width("img_in.weight", 128), Blocks("double_blocks", double), Blocks("single_blocks", single), variant=variant,
        ),
        checkpoint(
            "flux-2", "diffusers", diffusers,
            Has("double_stream_modulation_img.linear.weight"), Width("double_stream_modulation_img.linear.weight", width),
            Width("x_embedder.weight", 128), Blocks("transformer_blocks", double), Blocks("single_transformer_blocks", single),
            variant=variant,
        ),
        lora("flux-2", Transformer(f"FLUX.2 {variant}", (bfl, diffusers)), Encoders()),
    )
)  # fmt: skip
