"""The Stable Diffusion UNet in its two namings: the words that its tensors' names are made of, and its layers at
published sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from probes.report import Kind
from probes.rules import Begins, Mirrored, Only, Rule, Width, Words
from probes.signature import NORMAL, ChannelVariants, Signature

ROOTS = ("", "model.diffusion_model.", "diffusion_model.", "unet.")
"""Prefixes under which UNets are saved: alone, in a whole checkpoint, by ComfyUI, in trainers' states."""

_COMMON = """
    attn1 attn2 conv ff net proj norm norm1 norm2 norm3 proj_in proj_out to_q to_k to_v to_out transformer_blocks
    cond_proj
    v_pred ztsnr edm_mean edm_std edm_vpred sigma_max sigma_min
"""  # cond_proj: guidance embedding of a distilled (LCM) UNet; then markers of v-prediction merges
LDM_WORDS = Words(
    f"""{_COMMON} input_blocks output_blocks middle_block out time_embed label_emb in_layers out_layers emb_layers
        skip_connection op"""
)
_DIFFUSERS = f"""
    {_COMMON} down_blocks up_blocks mid_block conv_in conv_out conv_norm_out time_embedding add_embedding linear_1 linear_2 resnets
    attentions downsamplers upsamplers conv1 conv2 conv_shortcut time_emb_proj
"""
DIFFUSERS_WORDS = Words(_DIFFUSERS)
DIFFUSERS_CLASS_WORDS = Words(f"{_DIFFUSERS} class_embedding")
"""Of networks that are told a class, or what takes its place."""
LDM_WHOLE = Mirrored("input_blocks", "output_blocks")
DIFFUSERS_WHOLE = Mirrored("down_blocks", "up_blocks")
"""Half a network, as a shard holds it, is none."""
LDM_VARIANTS = ChannelVariants("input_blocks.0.0.weight", {4: NORMAL, 9: "inpaint", 8: "edit", 5: "depth"})
DIFFUSERS_VARIANTS = ChannelVariants("conv_in.weight", LDM_VARIANTS.names)
LDM_SD = (320, ("input_blocks.11.0.in_layers.2.weight", "middle_block.2.in_layers.2.weight"))
DIFFUSERS_SD = (320, ("down_blocks.3.resnets.1.conv1.weight", "mid_block.resnets.1.conv1.weight"))
"""Stable Diffusion 1 and 2, which BK-SDM, tiny-sd, small-sd and SDXS were cut from."""

DIFFUSERS_NAMES = r"(down|up)_blocks_|mid_block_|conv_|time_embedding_|add_embedding_"
"""What diffusers' names of the UNet's layers begin with."""


def numbered(family: str, text: int) -> Signature:
    """LoRAs of the `lora` package (cloneofsimo), which numbers the layers of attentions as it meets them. The seventh takes in text,
    of this width, whether it adapts gates or not."""
    rules = (
        Begins("unet::down"), Width("unet:0:down", 320), Width("unet:6:down", text), Width("unet:6:up", 320, axis=0),
        Only(*(f"{part}::{side}" for part in ("unet", "text_encoder") for side in ("down", "up"))),
    )  # fmt: skip
    return Signature(Kind.LORA, family, "cloneofsimo", rules)


LDM_ENDS, DIFFUSERS_ENDS = ("input_blocks.0.0.weight", "out.2.weight"), ("conv_in.weight", "conv_out.weight")


def ends(layers: tuple[str, str], channels: Iterable[int], *widths: int) -> tuple[Rule, ...]:
    """That the first of these layers takes in one of these numbers of channels and gives one of these widths, and that the last gives
    Stable Diffusion's latents: networks of sound, Marigold's of paint and light, SDXL's trained on for another VAE have others."""
    first, last = layers
    return Width(first, *channels), Width(first, *widths, axis=0), Width(last, 4, axis=0)


_POSITION = re.compile(r"^.*(?:blocks?|resnets|attentions|samplers)_\d+_(?:\d+_)?")
_BLOCK = re.compile(r"((?:down|up|input|output)_blocks_.+_transformer_blocks)_(\d+)_attn1_to_q")
_AT_A_NUMBER = re.compile(r"_(?=\d)|(?<=\d)_")


def _last_blocks(layers: Iterable[str]) -> tuple[str, ...]:
    """Of flattened paths, in their order."""
    last = {found[1]: found.group(1, 2) for path in layers if (found := _BLOCK.fullmatch(path))}
    return tuple(f"{_AT_A_NUMBER.sub('.', '_'.join(block))}.norm1.weight" for block in last.values())


@dataclass(frozen=True)
class UNet:
    """Layers of a published UNet. `depths`: transformer blocks per attention, for each level; None where a level has
    none.

    `up_depths` where it is not `depths` reversed, one number per attention; `mid` None: no mid-block attention.
    """

    name: str
    channels: tuple[int, ...]
    depths: tuple[int | None, ...]
    cross: int
    mid: int | None
    linear: bool
    up_depths: tuple[tuple[int, ...] | None, ...] | None = None
    added: int | None = None
    in_channels: int = 4
    per_level: int = 2

    @cached_property
    def namings(self) -> tuple[Mapping[str, tuple[int, int]], ...]:
        """Flattened diffusers names, then LDM names -> (input width, output width)."""
        walk = list(self._walk())
        return {d: (inner, outer) for d, _, inner, outer in walk}, {
            ldm: (inner, outer) for _, ldm, inner, outer in walk
        }

    @cached_property
    def deepest(self) -> tuple[tuple[str, ...], ...]:
        """Of each naming, a tensor of every attention's last block, on the ways down and up: one that was cut there lacks it."""
        return tuple(_last_blocks(layers) for layers in self.namings)

    def sort(self, path: str) -> str:
        """`attn2_to_k`, `ff_net_0_proj`, `conv1`, at whatever level."""
        return _POSITION.sub("", path)

    def _walk(self) -> Iterator[tuple[str, str, int, int]]:
        first, last = self.channels[0], self.channels[-1]
        time = 4 * first
        yield "conv_in", "input_blocks_0_0", self.in_channels, first
        yield "conv_out", "out_2", first, 4
        yield "time_embedding_linear_1", "time_embed_0", first, time
        yield "time_embedding_linear_2", "time_embed_2", time, time
        if self.added is not None:
            yield "add_embedding_linear_1", "label_emb_0_0", self.added, time
            yield "add_embedding_linear_2", "label_emb_0_2", time, time
        skips, width = [first], first
        stride = self.per_level + 1
        for level, (outer, depth) in enumerate(zip(self.channels, self.depths, strict=True)):
            for layer in range(self.per_level):
                at = 1 + level * stride + layer
                yield from self._resnet(f"down_blocks_{level}_resnets_{layer}", f"input_blocks_{at}_0", width, outer)
                if depth:
                    yield from self._attention(
                        f"down_blocks_{level}_attentions_{layer}", f"input_blocks_{at}_1", outer, depth
                    )
                width = outer
                skips.append(width)
            if level < len(self.channels) - 1:
                yield (
                    f"down_blocks_{level}_downsamplers_0_conv",
                    f"input_blocks_{(level + 1) * stride}_0_op",
                    width,
                    width,
                )
                skips.append(width)
        yield from self._resnet("mid_block_resnets_0", "middle_block_0", last, last)
        if self.mid:
            yield from self._attention("mid_block_attentions_0", "middle_block_1", last, self.mid)
            yield from self._resnet("mid_block_resnets_1", "middle_block_2", last, last)
        yield from self._up(skips)

    def _up(self, skips: list[int]) -> Iterator[tuple[str, str, int, int]]:
        count = self.per_level + 1
        width = self.channels[-1]
        for level, (outer, depth) in enumerate(zip(reversed(self.channels), reversed(self.depths), strict=True)):
            depths: Sequence[int] | None = (depth,) * count if depth else None
            if self.up_depths is not None:
                depths = self.up_depths[level]
            for layer in range(count):
                at = level * count + layer
                yield from self._resnet(
                    f"up_blocks_{level}_resnets_{layer}", f"output_blocks_{at}_0", width + skips.pop(), outer
                )
                if depths:
                    yield from self._attention(
                        f"up_blocks_{level}_attentions_{layer}", f"output_blocks_{at}_1", outer, depths[layer]
                    )
                width = outer
            if level < len(self.channels) - 1:
                yield (
                    f"up_blocks_{level}_upsamplers_0_conv",
                    f"output_blocks_{at}_{2 if depths else 1}_conv",
                    width,
                    width,
                )

    def _resnet(self, name: str, ldm: str, inner: int, outer: int) -> Iterator[tuple[str, str, int, int]]:
        yield f"{name}_conv1", f"{ldm}_in_layers_2", inner, outer
        yield f"{name}_conv2", f"{ldm}_out_layers_3", outer, outer
        yield f"{name}_time_emb_proj", f"{ldm}_emb_layers_1", 4 * self.channels[0], outer
        if inner != outer:
            yield f"{name}_conv_shortcut", f"{ldm}_skip_connection", inner, outer

    def _attention(self, name: str, ldm: str, width: int, depth: int) -> Iterator[tuple[str, str, int, int]]:
        for part in ("proj_in", "proj_out"):
            yield f"{name}_{part}", f"{ldm}_{part}", width, width
        for block in range(depth):
            for attention, text in (("attn1", width), ("attn2", self.cross)):
                for part, inner in (("to_q", width), ("to_k", text), ("to_v", text), ("to_out_0", width)):
                    path = f"transformer_blocks_{block}_{attention}_{part}"
                    yield f"{name}_{path}", f"{ldm}_{path}", inner, width
            for part, inner, outer in (("ff_net_0_proj", width, 8 * width), ("ff_net_2", 4 * width, width)):
                yield (
                    f"{name}_transformer_blocks_{block}_{part}",
                    f"{ldm}_transformer_blocks_{block}_{part}",
                    inner,
                    outer,
                )


SD1 = UNet("SD 1", (320, 640, 1280, 1280), (1, 1, 1, None), 768, 1, linear=False)
SD2 = UNet("SD 2", (320, 640, 1280, 1280), (1, 1, 1, None), 1024, 1, linear=True)
SDXL = UNet("SDXL", (320, 640, 1280), (None, 2, 10), 2048, 10, linear=True, added=2816)
REFINER = UNet("SDXL refiner", (384, 768, 1536, 1536), (None, 4, 4, None), 1280, 4, linear=True, added=2560)
# Block depths of segmind/SSD-1B and segmind/Segmind-Vega, as their 944 and 564 UNet tensors and 423 and 233 adaptable
# layers require.
SSD_1B = UNet(
    "SSD-1B",
    (320, 640, 1280),
    (None, 2, 4),
    2048,
    None,
    linear=True,
    up_depths=((4, 4, 10), (2, 1, 1), None),
    added=2816,
)
KOALA_1B = UNet("KOALA 1B", (320, 640, 1280), (None, 2, 6), 2048, 6, linear=True, added=2816, per_level=1)
KOALA_700M = UNet("KOALA 700M", (320, 640, 1280), (None, 2, 5), 2048, None, linear=True, added=2816, per_level=1)
VEGA = UNet("Segmind Vega", (320, 640, 1280), (None, 1, 2), 2048, None, linear=True, added=2816)
STARTER = UNet("modelshelf's starter", (48, 128), (1, 1), 768, 1, linear=False, per_level=1)


def _published(whole: UNet) -> tuple[UNet, ...]:
    """A Stable Diffusion 1 or 2, the one that inpaints, and what BK-SDM cut from it, as which small-sd, tiny-sd and SDXS are laid out."""
    small = replace(whole, name=f"{whole.name}, small", per_level=1)
    tiny = replace(small, name=f"{whole.name}, tiny", channels=whole.channels[:3], depths=(1, 1, 1), mid=None)
    return whole, replace(whole, name=f"{whole.name}, inpainting", in_channels=9), small, tiny


SD1S, SD2S = (*_published(SD1), STARTER), _published(SD2)
"""Networks whose LoRAs are of the family."""
