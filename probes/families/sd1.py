"""Stable Diffusion 1.x: cross-attention on CLIP-L's 768 values, 1x1 convolutions around the transformers."""

from __future__ import annotations

from dataclasses import replace

from probes.adapter_names import TEXT
from probes.adapter_rules import AdapterOf, CrossAttention, EncoderLayers, Encoders, Fits
from probes.families import unet
from probes.report import Kind
from probes.rules import Begins, Claimed, Dimensions, Either, Has, Rule, Width, Without
from probes.signature import Signature

_PICTURES = (
    "/cond_stage_model.model.visual.conv1.weight", "/cond_stage_model.transformer.vision_model.embeddings.position_embedding.weight",
)  # fmt: skip
"""What tells in a whole file that its prompts are pictures: of Image Variations, and of Paint-by-Example."""
_FIRST = sorted({network.channels[0] for network in unet.SD1S})
"""What the first layer gives."""


def _itself(layers: tuple[str, str]) -> tuple[Rule, ...]:
    """By its first and last layers, that it is none of the others with these names and shapes: IC-Light's files hold differences from a
    UNet, with light (8) or background too (12); Zero123's UNet takes a picture (8) and a camera."""
    others = ("ic-light", "zero123")
    told = (Either(Claimed(other, "sd-1", wanted=False), Width(layers[0], 4, 5, 9)) for other in others)
    return (*unet.ends(layers, (4, 5, 8, 9), *_FIRST), *told)


_ENCODERS = Encoders(te=768, te1=768, text_encoder=768)

SIGNATURES = (
    *(
        Signature(
            Kind.CHECKPOINT, "sd-1", "ldm",
            (
                Has("input_blocks.0.0.weight"), Has("out.2.weight"), Width("*.attn2.to_k.weight", 768), Dimensions("*.proj_in.weight", 4),
                Without("label_emb.0.0.weight", "label_emb.weight", "/cc_projection.weight"), prompt,
                *_itself(unet.LDM_ENDS), unet.LDM_WHOLE, unet.LDM_WORDS,
            ),
            unet.ROOTS, variants, variant, prediction_type="epsilon",
        )
        for prompt, variants, variant in (
            (Without(*_PICTURES), replace(unet.LDM_VARIANTS, whole=unet.LDM_SD), None),
            (Has(*_PICTURES), None, "image-prompt"),
        )
    ),
    Signature(
        Kind.CHECKPOINT, "sd-1", "diffusers",
        (
            Has("conv_in.weight"), Has("conv_out.weight"), Has("time_embedding.linear_1.weight"), Width("*.attn2.to_k.weight", 768),
            Dimensions("*.proj_in.weight", 4), Without("add_embedding.linear_1.weight"), *_itself(unet.DIFFUSERS_ENDS),
            unet.DIFFUSERS_WHOLE, unet.DIFFUSERS_WORDS,
        ),
        unet.ROOTS, replace(unet.DIFFUSERS_VARIANTS, whole=unet.DIFFUSERS_SD), prediction_type="epsilon",
    ),
    *(Signature(Kind.LORA, "sd-1", None, (AdapterOf(), CrossAttention(768), Fits(network), _ENCODERS)) for network in unet.SD1S),
    Signature(Kind.LORA, "sd-1", None, (AdapterOf(), CrossAttention(None), Fits(unet.SD1), _ENCODERS)),
    unet.numbered("sd-1", 768),
    Signature(Kind.LORA, "sd-1", None, (AdapterOf(TEXT), EncoderLayers(12), Encoders(te=768, text_encoder=768))),
    Signature(  # ComfyUI calls its encoder as it calls the first of others, and OMI
        Kind.LORA, "sd-1", None, (AdapterOf(TEXT), Begins("text_encoders.clip_l.", "clip_l."), EncoderLayers(12), Encoders(te1=768))
    ),
)  # fmt: skip
