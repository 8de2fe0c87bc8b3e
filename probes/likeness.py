"""What a file resembles: every rule of every signature, where a probe stops at the first that fails.

It takes some times as long as a probe, and is for a person who asks why, and for files that nothing matches. Nothing
depends on the order of signatures or tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from probes.adapter_rules import Fits
from probes.contenders import contest, covering
from probes.families import SIGNATURES
from probes.report import Evidence, Kind, named
from probes.rules import Rule
from probes.signature import Signature
from probes.subject import Subject

ENOUGH = 0.5
"""Share of what a signature asks for that must be there for a near miss: below it, the likeness says nothing."""
_SHARED = 4
"""Up to how many families that would have what was seen are named."""

_ABSENCES = frozenset(
    {
        "without",
        "only",
        "words",
        "volumes",
        "alone",
        "covers",
        "beyond",
        "leaves_out",
        "text_encoder",
        "claimed",
        "not_claimed",
    }
)
"""Rules that ask for nothing foreign to be there, or for a word: that they hold is no likeness."""
_NOTHING = frozenset({"0", "none"})
"""What rules expect of which nothing should be there: no blocks, no cross-attention."""
_MEASURES = frozenset({"width", "rows", "kernel", "dimensions", "blocks", "cross_attention"})
"""Rules whose value another family may have: "4 blocks, as ssd-1b"."""


@dataclass(frozen=True, slots=True)
class Refutation:
    """One rule that ruled a family out. `shared`: families that ask for just what was seen there; `extent`: how much of
    the file is so, where one example stands for several (so many, of so many)."""

    evidence: Evidence
    shared: tuple[str, ...] = ()
    extent: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Likeness:
    """A kind and family that the file is like. `share`: how much of what it asks for is there, 0..1."""

    kind: Kind
    family: str | None
    layout: str | None
    share: float
    held: tuple[Evidence, ...]
    refuted: tuple[Refutation, ...] = ()

    @property
    def name(self) -> str:
        return named(self.kind, self.family)


@dataclass(frozen=True, slots=True)
class _Trial:
    """Every rule of one signature, read under one root."""

    signature: Signature
    root: str
    results: tuple[tuple[Rule, Evidence], ...]
    share: float

    @property
    def ok(self) -> bool:
        return all(evidence.ok for _, evidence in self.results)

    @property
    def fits(self) -> bool:
        """Whether all holds but, perhaps, that there is nothing beside the adapter."""
        return self.share > 0 and all(evidence.ok or evidence.rule == "adapter" for _, evidence in self.results)

    @property
    def rank(self) -> tuple[Any, ...]:
        """The nearest first; words decide between equals, never the place in a list."""
        held = sum(evidence.ok for _, evidence in self.results)
        lost = len(self.results) - held
        # Rules stand with the most telling first.
        told = next((at for at, (_, evidence) in enumerate(self.results) if not evidence.ok), held)
        return not self.ok, -self.share, lost, -told, -held, self.signature.name, self.signature.layout or "", self.root


def likenesses(subject: Subject) -> tuple[list[Likeness], list[Likeness]]:
    """What matches, and what nearly does, the nearest first; of each kind and family its best layout."""
    trials = sorted(_contested([*_trials(subject)], subject), key=lambda trial: trial.rank)
    havers = _havers(trials)
    best = {trial.signature.name: trial for trial in reversed(trials)}  # of each name the first
    matched = [
        _likeness(trial, subject, havers) for trial in trials if trial.ok and best[trial.signature.name] is trial
    ]
    near = [
        _likeness(trial, subject, havers)
        for trial in trials
        if not trial.ok and trial.share >= ENOUGH and best[trial.signature.name] is trial
    ]
    if matched:  # a whole checkpoint is not nearly a VAE because it contains one
        near = [like for like in near if not any(r.evidence.rule == "alone" for r in like.refuted)]
    return matched, near


def _contested(trials: Sequence[_Trial], subject: Subject) -> list[_Trial]:
    """The trials, those of networks that another's covering rules out with that evidence."""
    left, out = contest([trial for trial in trials if trial.fits], subject)
    lost = [
        replace(trial, results=(*trial.results, (rule, evidence)))
        for trial, evidence in out
        if (rule := covering(trial.signature))
    ]
    return [*left, *lost, *(trial for trial in trials if not trial.fits)]


def _trials(subject: Subject) -> Iterator[_Trial]:
    for signature in SIGNATURES:
        for root in filter(subject.present, signature.roots):
            view = subject.under(root)
            results = tuple((rule, rule.check(view)) for rule in signature.rules)
            yield _Trial(signature, root, results, _share(signature, subject, results))


def _share(signature: Signature, subject: Subject, results: Sequence[tuple[Rule, Evidence]]) -> float:
    """How much of what the rules ask for is there: of rules that ask for something, those that hold, and of layers to
    fit, those that do; what must not be there counts where it is."""
    is_adapter = len(subject.adapter.modules) > len(subject.adapter.others)  # but for what stands beside it
    if signature.kind is Kind.CHECKPOINT and is_adapter:
        return 0.0  # an adapter of a network has some of its names
    had = asked = 0.0
    for rule, evidence in results:
        if evidence.rule == "adapter":
            if not evidence.ok and not (is_adapter and subject.adapter.others):
                return 0.0
            asked += not evidence.ok
        elif evidence.rule == "cross_attention" and evidence.expected in _NOTHING and not evidence.ok:
            return 0.0  # the signature is for files that adapt none; its sibling tells the width that is asked for
        elif isinstance(rule, Fits):
            fitting, modules = _fitting(rule, subject)
            if fitting < ENOUGH * modules:
                return 0.0
            had, asked = had + fitting / modules, asked + 1
        elif not evidence.ok or (evidence.rule not in _ABSENCES and evidence.expected not in _NOTHING):
            had, asked = had + evidence.ok, asked + 1
    return had / asked if asked else 0.0


def _fitting(rule: Fits, subject: Subject) -> tuple[int, int]:
    """How many of the denoiser's modules are called like layers of the architecture, and how many there are, at least
    one."""
    paths = {module.path for module in subject.adapter.layers}
    return max((len(paths & naming.keys()) for naming in rule.architecture.namings), default=0), len(paths) or 1


def _havers(trials: Iterable[_Trial]) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """What a rule is about -> the families whose value was seen there."""
    found: dict[tuple[str, str], set[str]] = {}
    for trial in trials:
        for rule, evidence in trial.results:
            measured = evidence.rule in _MEASURES and evidence.seen != "none"
            if evidence.ok and measured and trial.signature.family:
                found.setdefault(_about(rule, evidence), set()).add(trial.signature.family)
    return {about: tuple(sorted(families)) for about, families in found.items()}


def _about(rule: Rule, evidence: Evidence) -> tuple[str, str]:
    return evidence.rule, str(getattr(rule, "key", None) or getattr(rule, "prefix", None) or "")


def _likeness(trial: _Trial, subject: Subject, havers: Mapping[tuple[str, str], tuple[str, ...]]) -> Likeness:
    signature = trial.signature
    refuted = tuple(_refutation(rule, evidence, subject, havers) for rule, evidence in trial.results if not evidence.ok)
    held = tuple(evidence for _, evidence in trial.results if evidence.ok)
    return Likeness(signature.kind, signature.family, signature.layout, round(trial.share, 3), held, refuted)


def _refutation(
    rule: Rule, evidence: Evidence, subject: Subject, havers: Mapping[tuple[str, str], tuple[str, ...]]
) -> Refutation:
    shared = havers.get(_about(rule, evidence), ())
    extent = None
    if isinstance(rule, Fits):
        fitting, modules = _fitting(rule, subject)
        extent = (modules - fitting, modules) if fitting < modules else None
    return Refutation(evidence, shared if len(shared) <= _SHARED else (), extent)
