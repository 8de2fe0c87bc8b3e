"""Diffusion transformers as tables: which layers one block has, how often it is repeated, and what stands around the
blocks. A table serves both ways: a LoRA's modules must be layers of it, a checkpoint's names must be made of its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from probes.adapter_rules import AdapterOf, Encoders, Fits
from probes.report import Kind
from probes.rules import Rule, Volumes, Words
from probes.signature import ChannelVariants, Signature

ROOTS = ("", "model.diffusion_model.", "diffusion_model.", "transformer.", "model.", "model.model.", "net.")
"""Prefixes under which transformers are saved: alone, in a whole checkpoint, by ComfyUI, by trainers; the last three by AuraFlow's
authors, by ComfyUI for Hunyuan Video, and by NVIDIA."""

Layers = Mapping[str, tuple[int, int]]
Blocks = Mapping[str, tuple[int, Layers]]
_NO_DIGITS = str.maketrans("", "", "0123456789")


@dataclass(frozen=True, eq=False)
class Naming:
    """`blocks`: prefix -> (how many, the layers of one, dotted); `around`: layers outside of blocks, and those that a
    few blocks have otherwise; `beside`: the words of what has no layer: normalisations, tables, tokens."""

    blocks: Blocks
    around: Layers
    beside: str = ""

    def flat(self) -> dict[str, tuple[int, int]]:
        """Flattened path -> (input width, output width)."""
        table = {
            f"{prefix}.{index}.{path}": widths
            for prefix, (count, layers) in self.blocks.items()
            for index in range(count)
            for path, widths in layers.items()
        }
        return {path.replace(".", "_"): widths for path, widths in (table | dict(self.around)).items()}

    @cached_property
    def volumes(self) -> Volumes:
        """That weights whose widths a quantiser hid have these layers' numbers of values."""
        return Volumes(self.flat())

    @property
    def words(self) -> Words:
        """That no name has a part beside these: what was derived from a network (control, audio, a motion encoder) has."""
        paths = [*self.around, *(path for _, layers in self.blocks.values() for path in layers)]
        return Words(" ".join([*self.blocks, *paths, self.beside]).replace(".", " "))


@dataclass(frozen=True, eq=False)
class Transformer:
    """A published transformer's layers under each naming; see adapter_rules.Architecture."""

    name: str
    tables: tuple[Naming, ...]

    @cached_property
    def namings(self) -> tuple[Layers, ...]:
        return tuple(naming.flat() for naming in self.tables)

    def sort(self, path: str) -> str:
        """`transformer_blocks__attn_to_q`, of whichever block."""
        return path.translate(_NO_DIGITS)


def checkpoint(
    family: str,
    layout: str,
    naming: Naming,
    *rules: Rule,
    variant: str | None = None,
    variants: ChannelVariants | None = None,
    prediction_type: str = "flow",
) -> Signature:
    return Signature(
        Kind.CHECKPOINT,
        family,
        layout,
        (*rules, naming.words, naming.volumes),
        ROOTS,
        variants,
        variant,
        prediction_type,
    )


def lora(family: str, transformer: Transformer, encoders: Encoders, *rules: Rule) -> Signature:
    """LoRAs of any layout: every module is a layer of the transformer, or of its text encoders."""
    return Signature(Kind.LORA, family, None, (AdapterOf(), Fits(transformer), encoders, *rules))


def square(width: int, *paths: str) -> Layers:
    """Layers that take in and give the same width."""
    return dict.fromkeys(paths, (width, width))


def each(widths: tuple[int, int], *paths: str) -> Layers:
    """Layers of the same input and output width."""
    return dict.fromkeys(paths, widths)


def attention(name: str, *more: str) -> tuple[str, ...]:
    """diffusers' names of an attention's four projections, and `more` of them."""
    return tuple(f"{name}.{part}" for part in ("to_q", "to_k", "to_v", "to_out.0", *more))


JOINT = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""diffusers' names of the text's projections where picture and text attend to each other."""
