"""Stable Diffusion 2.x: cross-attention on OpenCLIP-H's 1024 values, linear layers around the transformers.

The 512 base (epsilon) and the 768 model (v) have the same tensors; only metadata or a scheduler's configuration tells
them apart.
"""

from __future__ import annotations

from probes.adapter_names import TEXT
from probes.adapter_rules import AdapterOf, CrossAttention, EncoderLayers, Encoders, Fits
from probes.families import unet
from probes.report import Kind
from probes.rules import Claimed, Dimensions, Has, Width, Without
from probes.signature import ChannelVariants, Signature

_ENCODERS = Encoders(te=1024, te1=1024, text_encoder=1024)
_NO_VIDEO = Claimed("stable-video", "sd-2", wanted=False)
"""Stable Video Diffusion's and ZeroScope's layers for single pictures are SD 2's."""


_NAMES = {count: name for count, name in unet.LDM_VARIANTS.names.items() if name != "edit"}
"""Of eight channels are Marigold's depths and normals, and no model of this family that edits pictures."""


SIGNATURES = (
    Signature(
        Kind.CHECKPOINT, "sd-2", "ldm",
        (
            Has("input_blocks.0.0.weight"), Has("out.2.weight"), Width("*.attn2.to_k.weight", 1024), Dimensions("*.proj_in.weight", 2),
            Without("label_emb.0.0.weight"), unet.LDM_WHOLE, unet.LDM_WORDS,
        ),
        unet.ROOTS, ChannelVariants("input_blocks.0.0.weight", _NAMES, unet.LDM_SD),
    ),
    Signature(
        Kind.CHECKPOINT, "sd-2", "diffusers",
        (
            Has("conv_in.weight"), Has("conv_out.weight"), Has("time_embedding.linear_1.weight"), Width("*.attn2.to_k.weight", 1024),
            Dimensions("*.proj_in.weight", 2), Without("add_embedding.linear_1.weight"), unet.DIFFUSERS_WHOLE, unet.DIFFUSERS_WORDS,
        ),
        unet.ROOTS, ChannelVariants("conv_in.weight", _NAMES, unet.DIFFUSERS_SD),
    ),
    *(
        Signature(Kind.LORA, "sd-2", None, (AdapterOf(), CrossAttention(1024), Fits(network), _NO_VIDEO, _ENCODERS))
        for network in unet.SD2S
    ),
    Signature(Kind.LORA, "sd-2", None, (AdapterOf(), CrossAttention(None), Fits(unet.SD2), _NO_VIDEO, _ENCODERS)),
    unet.numbered("sd-2", 1024),
    Signature(Kind.LORA, "sd-2", None, (AdapterOf(TEXT), EncoderLayers(23), _ENCODERS)),
)  # fmt: skip
