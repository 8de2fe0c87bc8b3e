"""A signature: the rules that make one layout of one family or kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probes.report import Evidence, Kind
from probes.rules import Rule
from probes.subject import Subject


@dataclass(frozen=True, slots=True)
class ChannelVariants:
    """Variants that a network's first layer tells by its input channels: axis 1 of `key`'s shape -> name."""

    key: str
    names: Mapping[int, str]

    def of(self, subject: Subject) -> str | None:
        shape = subject.shape(self.key)
        return None if shape is None or len(shape) < 2 else self.names.get(shape[1])


@dataclass(frozen=True, slots=True)
class Match:
    """One signature held against one header, read under `root`. `evidence` ends at the first rule that failed."""

    signature: Signature
    root: str
    evidence: tuple[Evidence, ...]

    @property
    def ok(self) -> bool:
        return bool(self.evidence) and self.evidence[-1].ok


@dataclass(frozen=True, slots=True)
class Signature:
    """One layout of one family or kind: it is present when every rule holds under one of the roots.

    Rules stand with the cheapest and most telling first: a header is dismissed at the first that fails, and how far it
    came makes the near-misses of the report.
    """

    kind: Kind
    family: str | None
    layout: str | None
    rules: tuple[Rule, ...]
    roots: tuple[str, ...] = ("",)
    variants: ChannelVariants | None = None
    variant: str | None = None
    prediction_type: str | None = None
    """The family's usual prediction type, reported as a default."""

    def match(self, subject: Subject) -> Match:
        best, best_root = [], ""
        for root in filter(subject.present, self.roots):
            view = subject.under(root)
            evidence: list[Evidence] = []
            for rule in self.rules:
                evidence.append(view.evidence(rule))
                if not evidence[-1].ok:
                    break
            else:
                return Match(self, root, tuple(evidence))
            if len(evidence) > len(best):
                best, best_root = evidence, root
        return Match(self, best_root, tuple(best))

    def variant_in(self, match: Match, subject: Subject) -> str | None:
        return self.variants.of(subject.under(match.root)) if self.variants else self.variant
