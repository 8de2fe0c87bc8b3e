"""Wan 2.x video: blocks of self- and cross-attention over UMT5 text (4096); 1.3B, 5B and 14B."""

from __future__ import annotations

from probes.families.transformer import Naming, Transformer, checkpoint, square
from probes.report import Kind
from probes.rules import AdapterOf, Blocks, Encoders, Fits, Has, Width
from probes.signature import ChannelVariants, Signature


def _transformer(name: str, count: int, width: int, mlp: int) -> Transformer:
    """Original names, then diffusers'. The `_img` and `add_` layers exist in the picture-to-video models."""
    original = {
        **square(width, *(f"{a}.{p}" for a in ("self_attn", "cross_attn") for p in "qkvo"), "cross_attn.k_img", "cross_attn.v_img"),
        "ffn.0": (width, mlp), "ffn.2": (mlp, width),
    }  # fmt: skip
    diffusers = {
        **square(width, *(f"{a}.{p}" for a in ("attn1", "attn2") for p in ("to_q", "to_k", "to_v", "to_out.0"))),
        **square(width, "attn2.add_k_proj", "attn2.add_v_proj"),
        "ffn.net.0.proj": (width, mlp), "ffn.net.2": (mlp, width),
    }  # fmt: skip
    return Transformer(name, (Naming({"blocks": (count, original)}, {}), Naming({"blocks": (count, diffusers)}, {})))


_SIZES = {"1.3b": (30, 1536, 8960), "5b": (30, 3072, 14336), "14b": (40, 5120, 13824)}
_CHANNELS = {16: "text-to-video", 36: "image-to-video", 48: "text-image-to-video"}

SIGNATURES = tuple(
    signature
    for name, (count, width, mlp) in _SIZES.items()
    for signature in (
        checkpoint(
            "wan",
            "original",
            Has("head.modulation"),
            Width("blocks.0.self_attn.q.weight", width),
            Width("text_embedding.0.weight", 4096),
            Blocks("blocks", count),
            variants=ChannelVariants("patch_embedding.weight", _CHANNELS),
        ),
        checkpoint(
            "wan",
            "diffusers",
            Has("condition_embedder.time_proj.weight"),
            Width("blocks.0.attn1.to_q.weight", width),
            Width("condition_embedder.text_embedder.linear_1.weight", 4096),
            Blocks("blocks", count),
            variants=ChannelVariants("patch_embedding.weight", _CHANNELS),
        ),
        Signature(
            Kind.LORA, "wan", None, (AdapterOf(), Fits(_transformer(f"Wan {name}", count, width, mlp)), Encoders())
        ),
    )
)
