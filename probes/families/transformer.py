"""Diffusion transformers as tables: which layers one block has, how often it is repeated, and what stands around the
blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from probes.report import Kind
from probes.rules import Rule
from probes.signature import ChannelVariants, Signature

ROOTS = ("", "model.diffusion_model.", "diffusion_model.", "transformer.")

Layers = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Naming:
    """`blocks`: prefix -> (how many, the layers of one, dotted); `around`: layers outside of blocks, and those that a
    few blocks have otherwise."""

    blocks: Mapping[str, tuple[int, Layers]]
    around: Layers

    def flat(self) -> dict[str, tuple[int, int]]:
        table = {
            f"{prefix}.{index}.{path}": widths
            for prefix, (count, layers) in self.blocks.items()
            for index in range(count)
            for path, widths in layers.items()
        }
        return {path.replace(".", "_"): widths for path, widths in (table | dict(self.around)).items()}


@dataclass(frozen=True, eq=False)
class Transformer:
    """A published transformer's layers under each naming; see rules.Architecture."""

    name: str
    tables: tuple[Naming, ...]

    @cached_property
    def namings(self) -> tuple[Layers, ...]:
        return tuple(naming.flat() for naming in self.tables)


def checkpoint(
    family: str, layout: str, *rules: Rule, variant: str | None = None, variants: ChannelVariants | None = None
) -> Signature:
    """A transformer's checkpoint. All of these learn a flow but PixArt, which says so itself."""
    return Signature(Kind.CHECKPOINT, family, layout, rules, ROOTS, variants, variant, "flow")


def square(width: int, *paths: str) -> Layers:
    """Layers that take in and give the same width."""
    return dict.fromkeys(paths, (width, width))
