"""A signature: the rules that make one layout of one family or kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from probes.report import Evidence, Kind, named
from probes.rules import Rule
from probes.subject import Subject

NORMAL, CUT = "normal", "cut"


@dataclass(frozen=True, slots=True)
class ChannelVariants:
    """Variants that a network's first layer tells by its input channels: axis 1 of `key`'s shape -> name.

    `whole`: what the published network gives there (axis 0), and its last layers; one of that width without them was cut
    from it, which its variant tells where its channels say nothing out of the ordinary.
    """

    key: str
    names: Mapping[int, str]
    whole: tuple[int, tuple[str, ...]] = (0, ())

    def of(self, subject: Subject) -> str | None:
        shape = subject.shape(self.key)
        if shape is None or len(shape) < 2:
            return None
        width, last = self.whole
        name = self.names.get(shape[1])
        return CUT if name == NORMAL and shape[0] == width and not all(map(subject.has, last)) else name


_NUMBERS: dict[Rule, int] = {}
"""Every rule of every signature. Equal ones have one number, and are asked once a header and root, however many
signatures share them."""


class Match(NamedTuple):
    """One signature held against one header, read under `root`. `evidence` ends at the first rule that failed."""

    signature: Signature
    root: str
    evidence: tuple[Evidence, ...]

    @property
    def ok(self) -> bool:
        return bool(self.evidence) and self.evidence[-1].ok

    def ruled_out(self, evidence: Evidence) -> Match:
        """This match with what speaks against it after all."""
        return self._replace(evidence=(*self.evidence, evidence))


@dataclass(frozen=True, slots=True, eq=False)
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
    numbered: tuple[tuple[int, Rule], ...] = field(init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Its kind with its family, as answers call it."""
        return named(self.kind, self.family)

    def __post_init__(self) -> None:
        numbered = tuple((_NUMBERS.setdefault(rule, len(_NUMBERS)), rule) for rule in self.rules)
        object.__setattr__(self, "numbered", numbered)

    def match(self, subject: Subject) -> Match:
        best: list[Evidence] = []
        root = ""
        for view in subject.views(self.roots):
            known = view.evidence
            evidence: list[Evidence] = []
            for number, rule in self.numbered:
                seen = known.get(number)
                if seen is None:
                    seen = known[number] = rule.check(view)
                evidence.append(seen)
                if not seen.ok:
                    break
            if len(evidence) > len(best) or evidence[-1].ok:
                best, root = evidence, view.root
                if evidence[-1].ok:
                    break
        return Match(self, root, tuple(best))

    def variant_in(self, match: Match, subject: Subject) -> str | None:
        return self.variants.of(subject.under(match.root)) if self.variants else self.variant


def match_all(signatures: tuple[Signature, ...], subject: Subject) -> Iterator[Match]:
    """Every signature that holds for one rule at least. Most fail at their first, which those of one kind share."""
    for (roots, number, rule), alike in _by_first_rule(signatures).items():
        for view in subject.views(roots):
            seen = view.evidence.get(number)
            if seen is None:
                seen = view.evidence[number] = rule.check(view)
            if seen.ok:
                yield from (signature.match(subject) for signature in alike)
                break


@lru_cache(maxsize=8)
def _by_first_rule(signatures: tuple[Signature, ...]) -> Mapping[tuple[tuple[str, ...], int, Rule], list[Signature]]:
    groups: dict[tuple[tuple[str, ...], int, Rule], list[Signature]] = {}
    for signature in signatures:
        groups.setdefault((signature.roots, *signature.numbered[0]), []).append(signature)
    return groups
