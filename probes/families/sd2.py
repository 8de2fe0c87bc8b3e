"""Stable Diffusion 2.x: cross-attention on OpenCLIP-H's 1024 values, linear layers around the transformers.

The 512 base (epsilon) and the 768 model (v) have the same tensors; only metadata or a scheduler's configuration tells
them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from probes.adapter_names import TEXT
from probes.adapter_rules import AdapterOf, CrossAttention, EncoderLayers, Encoders, Fits, Paths
from probes.families import unet
from probes.report import Kind
from probes.rules import Claimed, Dimensions, Has, Rule, Width, Without
from probes.signature import ChannelVariants, Signature

_ENCODERS = Encoders(te=1024, te1=1024, text_encoder=1024)
_NO_VIDEO = tuple(Claimed(video, "sd-2", wanted=False) for video in ("svd", "zeroscope"))
"""Stable Video Diffusion's and ZeroScope's layers for single pictures are SD 2's."""
_ATTENTION = r"((down|up)_blocks_\d|mid_block)_attentions_"
_CHANNELS = {count: name for count, name in unet.LDM_VARIANTS.names.items() if name != "edit"}
"""Of eight channels are Marigold's depths and normals, and no model of this family that edits pictures."""


@dataclass(frozen=True, slots=True)
class _Naming:
    """What some layers are called in a layout. `embedding`: the first layer by which the network is told more than a text and a step;
    `table`: in its place, one row for each of several classes; `others`: what else tells the layout."""

    layout: str
    ends: tuple[str, str]
    embedding: str
    table: str
    others: tuple[Rule, ...]

    def checkpoints(self, cut: tuple[int, tuple[str, ...]], words: Rule, told: Rule) -> Iterator[Signature]:
        """The network itself; unCLIP, which is told a picture as CLIP-L (768 values) or OpenCLIP-H (1024) embeds it and, in as many, how
        noisy that is; and the upscaler, of other widths, which is told one of 1,000 levels of noise."""
        ends, first = partial(unet.ends, self.ends), self.ends[0]
        networks: dict[str | None, tuple[Rule, ...]] = {
            None: (Without(self.embedding, self.table), words, *ends((4, 5, 8, 9), 320)),
            "unclip": (Width(self.embedding, 2 * 768, 2 * 1024), told, *ends((4,), 320)),
            "upscaler": (Width(self.table, 1000, axis=0), told, *ends((7,), 256)),
        }
        for variant, rules in networks.items():
            every: tuple[Rule, ...] = (
                *map(Has, self.ends), Width("*.attn2.to_k.weight", 1024), Dimensions("*.proj_in.weight", 2), *self.others, *rules,
            )  # fmt: skip
            channels = ChannelVariants(first, _CHANNELS, cut) if variant is None else None
            usual = "v_prediction" if variant else None
            yield Signature(Kind.CHECKPOINT, "sd-2", self.layout, every, unet.ROOTS, channels, variant, usual)


_LDM = _Naming("ldm", unet.LDM_ENDS, "label_emb.0.0.weight", "label_emb.weight", (unet.LDM_WHOLE,))
_DIFFUSERS = _Naming(
    "diffusers", unet.DIFFUSERS_ENDS, "class_embedding.linear_1.weight", "class_embedding.weight",
    (Has("time_embedding.linear_1.weight"), Without("add_embedding.linear_1.weight"), unet.DIFFUSERS_WHOLE),
)  # fmt: skip

SIGNATURES = (
    *_LDM.checkpoints(unet.LDM_SD, unet.LDM_WORDS, unet.LDM_WORDS),
    *_DIFFUSERS.checkpoints(unet.DIFFUSERS_SD, unet.DIFFUSERS_WORDS, unet.DIFFUSERS_CLASS_WORDS),
    *(
        Signature(Kind.LORA, "sd-2", None, (AdapterOf(), CrossAttention(1024), Fits(network), *_NO_VIDEO, _ENCODERS))
        for network in unet.SD2S
    ),
    Signature(Kind.LORA, "sd-2", None, (AdapterOf(), CrossAttention(None), Fits(unet.SD2), *_NO_VIDEO, _ENCODERS)),
    Signature(
        Kind.LORA, "svd", None,
        (
            AdapterOf(), CrossAttention(1024), Fits(unet.SD2), Paths("attention in diffusers' naming", _ATTENTION), Encoders(),
            Claimed("svd", "sd-2"),
        ),
    ),  # for its single pictures alone
    unet.numbered("sd-2", 1024),
    Signature(Kind.LORA, "sd-2", None, (AdapterOf(TEXT), EncoderLayers(23), _ENCODERS)),
)  # fmt: skip
