"""Hunyuan Video: 20 double and 40 single blocks of 3072 values over LLaVA text (4096) and CLIP-L. FramePack is the same
network with an encoder of the frames before."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import TypeVar

from probes.adapter_rules import Encoders, Exceeds
from probes.families.flux1 import FLUX1, NOT_XLABS
from probes.families.transformer import JOINT, Layers, Naming, Transformer, attention, checkpoint, each, lora, square
from probes.rules import Blocks, Claimed, Has, Width, Without
from probes.signature import ChannelVariants

T = TypeVar("T")

WIDTH, MLP = 3072, 12288


def original_blocks(width: int, mlp: int) -> Mapping[str, tuple[int, Layers]]:
    """HunyuanImage's are as many, and wider."""
    return {
        "double_blocks": (20, {
            f"{stream}_{path}": widths
            for stream in ("img", "txt")
            for path, widths in {
                "mod.linear": (width, 6 * width), "attn_qkv": (width, 3 * width), "attn_proj": (width, width),
                "mlp.fc1": (width, mlp), "mlp.fc2": (mlp, width),
            }.items()
        }),
        "single_blocks": (40, {
            "linear1": (width, 3 * width + mlp), "linear2": (width + mlp, width), "modulation.linear": (width, 3 * width),
        }),
        "txt_in.individual_token_refiner.blocks": (2, {
            "self_attn_qkv": (width, 3 * width), "self_attn_proj": (width, width), "mlp.fc1": (width, mlp), "mlp.fc2": (mlp, width),
            "adaLN_modulation.1": (width, 2 * width),
        }),
    }  # fmt: skip


def diffusers_blocks(width: int, mlp: int) -> Mapping[str, tuple[int, Layers]]:
    return {
        "transformer_blocks": (20, {
            **each((width, 6 * width), "norm1.linear", "norm1_context.linear"), **square(width, *attention("attn", *JOINT)),
            **each((width, mlp), "ff.net.0.proj", "ff_context.net.0.proj"), **each((mlp, width), "ff.net.2", "ff_context.net.2"),
        }),
        "single_transformer_blocks": (40, {
            **square(width, "attn.to_q", "attn.to_k", "attn.to_v"), "norm.linear": (width, 3 * width),
            "proj_mlp": (width, mlp), "proj_out": (width + mlp, width),
        }),
        "context_embedder.token_refiner.refiner_blocks": (2, {
            **square(width, *attention("attn")), "ff.net.0.proj": (width, mlp), "ff.net.2": (mlp, width),
            "norm_out.linear": (width, 2 * width),
        }),
    }  # fmt: skip


ORIGINAL = Naming(
    original_blocks(WIDTH, MLP),
    {
        **each((4096, WIDTH), "txt_in.input_embedder", "txt_in.c_embedder.linear_1"), "txt_in.c_embedder.linear_2": (WIDTH, WIDTH),
        **{
            f"{embedder}.mlp.{n}": ((256 if n == 0 else WIDTH), WIDTH)
            for embedder in ("txt_in.t_embedder", "time_in", "guidance_in") for n in (0, 2)
        },
        "vector_in.in_layer": (768, WIDTH), "vector_in.out_layer": (WIDTH, WIDTH),
        "img_in.proj": (16, WIDTH), "final_layer.linear": (WIDTH, 64), "final_layer.adaLN_modulation.1": (WIDTH, 2 * WIDTH),
    },
    beside="img_attn_q_norm img_attn_k_norm txt_attn_q_norm txt_attn_k_norm q_norm k_norm norm1 norm2",
)  # fmt: skip
_AS_FLUX = (
    ("mod.linear", "mod.lin"), ("attn_qkv", "attn.qkv"), ("attn_proj", "attn.proj"), ("mlp.fc1", "mlp.0"), ("mlp.fc2", "mlp.2"),
    ("modulation.linear", "modulation.lin"), ("_in.mlp.0", "_in.in_layer"), ("_in.mlp.2", "_in.out_layer"),
    ("embedder.mlp.0", "embedder.in_layer"), ("embedder.mlp.2", "embedder.out_layer"),
    ("embedder.linear_1", "embedder.in_layer"), ("embedder.linear_2", "embedder.out_layer"),
)  # fmt: skip


def as_flux(layers: Mapping[str, T]) -> dict[str, T]:
    """Under the names by which ComfyUI, whose FLUX.1 has the same blocks, saves them."""
    return {reduce(lambda path, pair: path.replace(*pair), _AS_FLUX, name): value for name, value in layers.items()}


COMFY = Naming(
    {prefix: (count, as_flux(block)) for prefix, (count, block) in ORIGINAL.blocks.items()},
    as_flux(ORIGINAL.around),
    beside="norm query_norm key_norm scale norm1 norm2",
)
DIFFUSERS = Naming(
    diffusers_blocks(WIDTH, MLP),
    {
        **{
            f"{embedder}.linear_{n}": ((inner if n == 1 else WIDTH), WIDTH)
            for embedder, inner in (
                ("context_embedder.time_text_embed.timestep_embedder", 256), ("context_embedder.time_text_embed.text_embedder", 4096),
                ("time_text_embed.timestep_embedder", 256), ("time_text_embed.guidance_embedder", 256),
                ("time_text_embed.text_embedder", 768),
            )
            for n in (1, 2)
        },
        "context_embedder.proj_in": (4096, WIDTH), "x_embedder.proj": (16, WIDTH),
        "norm_out.linear": (WIDTH, 2 * WIDTH), "proj_out": (WIDTH, 64),
    },
    beside="norm1 norm2 norm_q norm_k norm_added_q norm_added_k",
)  # fmt: skip
FRAMEPACK = Naming(
    DIFFUSERS.blocks,
    {
        **DIFFUSERS.around,
        "clean_x_embedder.proj": (16, WIDTH), "clean_x_embedder.proj_2x": (16, WIDTH), "clean_x_embedder.proj_4x": (16, WIDTH),
        "image_projection.up": (1152, 3 * WIDTH), "image_projection.down": (3 * WIDTH, WIDTH),
    },
    DIFFUSERS.beside,
)  # fmt: skip
HUNYUAN_VIDEO = Transformer("Hunyuan Video", (ORIGINAL, FRAMEPACK))

_DIFFUSERS_RULES = (
    Has("context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight"),
    Width("transformer_blocks.0.attn.to_q.weight", WIDTH),
    Blocks("transformer_blocks", 20),
    Blocks("single_transformer_blocks", 40),
)
_ENCODERS = Encoders(te=4096, te1=4096, te2=768, text_encoder=4096, text_encoder_2=768)
_CLEAN = "clean_x_embedder.proj.weight"
_CHANNELS = {33: "image-to-video", 32: "image-to-video"}
"""With a first picture, and in Tencent's a mask, beside the noise (SkyReels has none). A picture in place of the first frame shows
nowhere."""


def _variants(first: str) -> ChannelVariants:
    return ChannelVariants(first, _CHANNELS)


SIGNATURES = (
    *(
        checkpoint(
            "hunyuan-video", layout, naming,
            Has(f"double_blocks.0.img_attn{dot}qkv.weight"), Has(f"txt_in.individual_token_refiner.blocks.0.self_attn{dot}qkv.weight"),
            Width(f"double_blocks.0.img_attn{dot}qkv.weight", WIDTH), Width("txt_in.input_embedder.weight", 4096),
            Blocks("double_blocks", 20), Blocks("single_blocks", 40), variants=_variants("img_in.proj.weight"),
        )
        for layout, naming, dot in (("original", ORIGINAL, "_"), ("comfy", COMFY, "."))
    ),
    checkpoint(
        "hunyuan-video", "diffusers", DIFFUSERS, *_DIFFUSERS_RULES, Without(_CLEAN), variants=_variants("x_embedder.proj.weight")
    ),
    checkpoint("hunyuan-video", "diffusers", FRAMEPACK, *_DIFFUSERS_RULES, Has(_CLEAN), variant="framepack"),
    lora("hunyuan-video", HUNYUAN_VIDEO, _ENCODERS, NOT_XLABS),
    # Of a few blocks, ComfyUI's names are FLUX.1's, whose LoRAs are many times as many.
    *(
        lora("hunyuan-video", Transformer("Hunyuan Video", (COMFY,)), _ENCODERS, NOT_XLABS, rule)
        for rule in (Exceeds(FLUX1), Claimed("hunyuan-video", "flux-1"))
    ),
)  # fmt: skip
