"""FLUX.2: modulation shared by all blocks, text from a vision-language model; dev and the two sizes of klein."""

from __future__ import annotations

from collections.abc import Mapping

from probes.families.transformer import checkpoint
from probes.rules import Has, Width

_SIZES: Mapping[str, int] = {"dev": 6144, "klein-4b": 3072, "klein-9b": 4096}

SIGNATURES = tuple(
    signature
    for variant, width in _SIZES.items()
    for signature in (
        checkpoint(
            "flux-2",
            "bfl",
            Has("double_stream_modulation_img.lin.weight"),
            Width("double_stream_modulation_img.lin.weight", width),
            Width("img_in.weight", 128),
            variant=variant,
        ),
        checkpoint(
            "flux-2",
            "diffusers",
            Has("double_stream_modulation_img.linear.weight"),
            Width("double_stream_modulation_img.linear.weight", width),
            Width("x_embedder.weight", 128),
            variant=variant,
        ),
    )
)
