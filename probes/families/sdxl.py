"""Stable Diffusion XL and what was cut from it: cross-attention on 2048 values (CLIP-L and CLIP-G side by side).

The base, SSD-1B, Segmind Vega and KOALA differ in their block depths alone; Kolors puts another text encoder in front. SDXL's
own derivatives (Turbo, Lightning, Pony, Illustrious, NoobAI, Playground) have its very shapes.
"""

from __future__ import annotations

from dataclasses import replace

from probes.adapter_names import TEXT
from probes.adapter_rules import AdapterOf, Covers, CrossAttention, Encoders, Fits, Paths
from probes.families import unet
from probes.report import Kind
from probes.rules import Blocks, Claimed, Has, Rule, Width
from probes.signature import Signature

_ENCODERS = Encoders(te1=768, te2=1280, text_encoder=768, text_encoder_2=1280)
_REFINER_ENCODERS = Encoders(te2=1280, text_encoder_2=1280)
_LDM = (Has("input_blocks.0.0.weight"), Has("out.2.weight"), Width("*.attn2.to_k.weight", 2048))
_DIFFUSERS = (Has("conv_in.weight"), Has("conv_out.weight"), Width("*.attn2.to_k.weight", 2048))

_LDM_ENDS, _DIFFUSERS_ENDS = (unet.ends(layers, (4, 8, 9), 320) for layers in (unet.LDM_ENDS, unet.DIFFUSERS_ENDS))


def _checkpoints(family: str, architecture: unet.UNet) -> tuple[Signature, ...]:
    """Both namings. One that lacks blocks elsewhere than in the middle and in the lowest level's first attention was cut."""
    middle, deepest, lowest = architecture.mid or 0, architecture.depths[-1] or 0, 3 + 2 * architecture.per_level
    diffusers, ldm = ((architecture.channels[0], blocks) for blocks in architecture.deepest)
    return (
        Signature(
            Kind.CHECKPOINT, family, "ldm",
            (
                *_LDM, Width("label_emb.0.0.weight", 2816), Blocks(f"input_blocks.{lowest}.1.transformer_blocks", deepest),
                Blocks("middle_block.1.transformer_blocks", middle), unet.LDM_WHOLE, unet.LDM_WORDS,
                *_LDM_ENDS,
            ),
            unet.ROOTS, replace(unet.LDM_VARIANTS, whole=ldm), prediction_type="epsilon",
        ),
        Signature(
            Kind.CHECKPOINT, family, "diffusers",
            (
                *_DIFFUSERS, Width("add_embedding.linear_1.weight", 2816), Blocks("down_blocks.2.attentions.0.transformer_blocks", deepest),
                Blocks("mid_block.attentions.0.transformer_blocks", middle), unet.DIFFUSERS_WHOLE, unet.DIFFUSERS_WORDS,
                *_DIFFUSERS_ENDS,
            ),
            unet.ROOTS, replace(unet.DIFFUSERS_VARIANTS, whole=diffusers), prediction_type="epsilon",
        ),
    )  # fmt: skip


def _loras(family: str, architecture: unet.UNet, cross: int, encoders: Encoders, *rules: Rule) -> tuple[Signature, ...]:
    """LoRAs with cross-attention and without."""
    return tuple(
        Signature(Kind.LORA, family, None, (AdapterOf(), CrossAttention(width), Fits(architecture), encoders, *rules))
        for width in (cross, None)
    )


def _cut(family: str, architecture: unet.UNet) -> tuple[Signature, ...]:
    """LoRAs of a network that was cut from SDXL: all fit SDXL too, so these must cover the smaller one, or be said to
    be for it."""
    return tuple(
        signature
        for rule in (Covers(architecture), Claimed(family, "sdxl"))
        for signature in _loras(family, architecture, 2048, _ENCODERS, rule)
    )


SIGNATURES = (
    *_checkpoints("sdxl", unet.SDXL),
    *_checkpoints("ssd-1b", unet.SSD_1B),
    *_checkpoints("segmind-vega", unet.VEGA),
    *_checkpoints("koala", unet.KOALA_1B),
    *_checkpoints("koala", unet.KOALA_700M),
    *_loras("sdxl", unet.SDXL, 2048, _ENCODERS),
    # Kolors' LoRAs have SDXL's shapes, in diffusers' names, and have to be said to be.
    *_loras("kolors", unet.SDXL, 2048, Encoders(), Paths("diffusers", unet.DIFFUSERS_NAMES), Claimed("kolors", "sdxl")),
    *_cut("ssd-1b", unet.SSD_1B),
    *_cut("segmind-vega", unet.VEGA),
    *_cut("koala", unet.KOALA_1B),
    *_cut("koala", unet.KOALA_700M),
    *(
        Signature(Kind.LORA, family, None, (AdapterOf(TEXT), encoders))
        for family, known in (("sdxl", _ENCODERS), ("sdxl-refiner", _REFINER_ENCODERS))
        for encoders in (known, Encoders(text_encoder=1280))  # PEFT saves the second without its name
    ),
    Signature(
        Kind.CHECKPOINT, "sdxl-refiner", "ldm",
        (
            Has("input_blocks.0.0.weight"), Has("out.2.weight"), Width("*.attn2.to_k.weight", 1280), Width("label_emb.0.0.weight", 2560),
            unet.LDM_WHOLE, unet.LDM_WORDS, *unet.ends(unet.LDM_ENDS, (4,), 384),
        ),
        unet.ROOTS, unet.LDM_VARIANTS, prediction_type="epsilon",
    ),
    Signature(
        Kind.CHECKPOINT, "sdxl-refiner", "diffusers",
        (
            Has("conv_in.weight"), Has("conv_out.weight"), Width("*.attn2.to_k.weight", 1280),
            Width("add_embedding.linear_1.weight", 2560), unet.DIFFUSERS_WHOLE, unet.DIFFUSERS_WORDS,
            *unet.ends(unet.DIFFUSERS_ENDS, (4,), 384),
        ),
        unet.ROOTS, unet.DIFFUSERS_VARIANTS, prediction_type="epsilon",
    ),
    *_loras("sdxl-refiner", unet.REFINER, 1280, _REFINER_ENCODERS),
    Signature(
        Kind.CHECKPOINT, "kolors", "diffusers",
        (
            *_DIFFUSERS, Width("encoder_hid_proj.weight", 4096), Width("add_embedding.linear_1.weight", 5632),
            Blocks("mid_block.attentions.0.transformer_blocks", 10), unet.DIFFUSERS_WHOLE, *_DIFFUSERS_ENDS,
        ),
        unet.ROOTS, unet.DIFFUSERS_VARIANTS, prediction_type="epsilon",
    ),
)  # fmt: skip
