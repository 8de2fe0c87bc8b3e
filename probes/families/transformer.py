"""Diffusion transformers as tables: which layers one block has, how often it is repeated, and what stands around the blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

ROOTS = ("", "model.diffusion_model.", "diffusion_model.", "transformer.")

Layers = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Naming:
    """`blocks`: prefix -> (how many, the layers of one, dotted); `around`: layers outside of blocks, and those that a few blocks have otherwise."""

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


@dataclass(frozen=True)
class Transformer:
    """A published transformer's layers under each naming; see rules.Architecture."""

    name: str
    tables: tuple[Naming, ...]

    @cached_property
    def namings(self) -> tuple[Layers, ...]:
        return tuple(naming.flat() for naming in self.tables)
