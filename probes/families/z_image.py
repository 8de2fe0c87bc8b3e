"""Z-Image: single-stream blocks of 3840 values, text from Qwen3 (2560)."""

from __future__ import annotations

from dataclasses import replace

from probes.adapter_rules import Encoders
from probes.families.transformer import ROOTS, Layers, Naming, Transformer, checkpoint, each, lora, square
from probes.report import Kind
from probes.rules import Blocks, Has, Width
from probes.signature import Signature

WIDTH, MLP = 3840, 10240
_DEPTH = (Blocks("layers", 30), Blocks("noise_refiner", 2), Blocks("context_refiner", 2))


def _naming(attention: Layers, first: str, last: str, beside: str) -> Naming:
    plain = {**attention, **each((WIDTH, MLP), "feed_forward.w1", "feed_forward.w3"), "feed_forward.w2": (MLP, WIDTH)}
    modulated = {**plain, "adaLN_modulation.0": (256, 4 * WIDTH)}
    return Naming(
        {"layers": (30, modulated), "noise_refiner": (2, modulated), "context_refiner": (2, plain)},
        {
            "cap_embedder.1": (2560, WIDTH), "t_embedder.mlp.0": (256, 1024), "t_embedder.mlp.2": (1024, 256),
            first: (64, WIDTH), f"{last}.linear": (WIDTH, 64), f"{last}.adaLN_modulation.1": (256, WIDTH),
        },
        f"attention_norm1 ffn_norm1 cap_pad_token x_pad_token {beside}",
    )  # fmt: skip


DIFFUSERS = _naming(
    square(WIDTH, "attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0"),
    "all_x_embedder.2-1",
    "all_final_layer.2-1",
    "norm_q norm_k",
)
ORIGINAL = _naming(
    {"attention.qkv": (WIDTH, 3 * WIDTH), "attention.out": (WIDTH, WIDTH)},
    "x_embedder",
    "final_layer",
    "q_norm k_norm norm_final",
)
MIXED = replace(
    DIFFUSERS,
    blocks={
        prefix: (count, {**layers, "attention.qkv": (WIDTH, 3 * WIDTH), "attention.out": (WIDTH, WIDTH)})
        for prefix, (count, layers) in DIFFUSERS.blocks.items()
    },
)
"""Some trainers write the output's original name beside diffusers' others, some the fused projections beside their parts."""
OMNI = Naming(
    {**DIFFUSERS.blocks, "siglip_refiner": DIFFUSERS.blocks["context_refiner"]},
    {**DIFFUSERS.around, "siglip_embedder.1": (1152, WIDTH)},
    f"{DIFFUSERS.beside} siglip_pad_token",
)
"""Z-Image-Omni, which is shown pictures as SigLIP 2 sees them."""

SIGNATURES = (
    checkpoint(
        "z-image", "original", ORIGINAL,
        Has("layers.0.attention.qkv.weight"), Width("cap_embedder.1.weight", 2560), Width("layers.0.attention.qkv.weight", WIDTH),
        *_DEPTH,
    ),
    checkpoint(
        "z-image", "diffusers", DIFFUSERS,
        Has("layers.0.attention.to_q.weight"), Width("cap_embedder.1.weight", 2560), Width("layers.0.attention.to_q.weight", WIDTH),
        *_DEPTH,
    ),
    checkpoint(
        "z-image", "diffusers", OMNI,
        Has("siglip_embedder.1.weight"), Width("siglip_embedder.1.weight", 1152), Width("cap_embedder.1.weight", 2560),
        Width("layers.0.attention.to_q.weight", WIDTH), *_DEPTH, Blocks("siglip_refiner", 2), variant="omni",
    ),
    Signature(
        Kind.CHECKPOINT, "z-image", "nunchaku",
        (Has("layers.0.attention.to_qkv.qweight"), Width("cap_embedder.1.weight", 2560), *_DEPTH), ROOTS, prediction_type="flow",
    ),  # SVDQuant, as of Qwen-Image
    lora("z-image", Transformer("Z-Image", (DIFFUSERS, ORIGINAL, MIXED, OMNI)), Encoders()),
)  # fmt: skip
