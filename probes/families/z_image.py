"""Z-Image: single-stream blocks of 3840 values, text from Qwen3 (2560)."""

from __future__ import annotations

from probes.families.transformer import Layers, Naming, Transformer, checkpoint, square
from probes.report import Kind
from probes.rules import AdapterOf, Encoders, Fits, Has, Width
from probes.signature import Signature

WIDTH, MLP = 3840, 10240


def _blocks(attention: Layers) -> Naming:
    plain = {
        **attention,
        "feed_forward.w1": (WIDTH, MLP),
        "feed_forward.w2": (MLP, WIDTH),
        "feed_forward.w3": (WIDTH, MLP),
    }
    modulated = {**plain, "adaLN_modulation.0": (256, 4 * WIDTH)}
    return Naming(
        {"layers": (30, modulated), "noise_refiner": (2, modulated), "context_refiner": (2, plain)},
        {"cap_embedder.1": (2560, WIDTH), "t_embedder.mlp.0": (256, 1024), "t_embedder.mlp.2": (1024, 256)},
    )


Z_IMAGE = Transformer(
    "Z-Image",
    (
        _blocks(square(WIDTH, "attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")),
        _blocks({"attention.qkv": (WIDTH, 3 * WIDTH), "attention.out": (WIDTH, WIDTH)}),
    ),
)

SIGNATURES = (
    checkpoint(
        "z-image",
        "original",
        Has("layers.0.attention.qkv.weight"),
        Width("cap_embedder.1.weight", 2560),
        Width("layers.0.attention.qkv.weight", WIDTH),
    ),
    checkpoint(
        "z-image",
        "diffusers",
        Has("layers.0.attention.to_q.weight"),
        Width("cap_embedder.1.weight", 2560),
        Width("layers.0.attention.to_q.weight", WIDTH),
    ),
    Signature(Kind.LORA, "z-image", None, (AdapterOf(), Fits(Z_IMAGE), Encoders())),
)
