"""What is not taken has no family: its kind, told by names that are its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from probes.report import Kind
from probes.rules import Has, Rule
from probes.signature import Signature

Every = Iterable[str | Sequence[str]]
"""Names of tensors that are all there; where several stand together, one of them is."""


def part(kind: Kind, layout: str | None, *rules: Rule, roots: tuple[str, ...] = ("",)) -> Signature:
    return Signature(kind, None, layout, rules, roots)


def has(every: Every) -> tuple[Has, ...]:
    return tuple(Has(*((key,) if isinstance(key, str) else key)) for key in every)


def table(
    kind: Kind, layouts: Mapping[str, Every], *rules: Rule, roots: tuple[str, ...] = ("",)
) -> Iterator[Signature]:
    """A signature for each layout: its names are there, and the rules hold."""
    return (part(kind, layout, *has(every), *rules, roots=roots) for layout, every in layouts.items())
