"""Why this and not that: a probe's report with what the file nearly was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from probes.containers.folder import Folder
from probes.dump import read_target
from probes.engine import DENOISERS, answer
from probes.header import Header
from probes.likeness import Likeness, likenesses
from probes.report import USER, Evidence, Hints, Report
from probes.subject import Subject

NEAREST = 3
"""How many near misses are told at most."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`matched`: all that the shapes fit, of which hints may have chosen one; `near`: what they nearly fit, the nearest
    first; `overruled`: names, cards and metadata that say another family than the shapes do."""

    report: Report
    matched: tuple[Likeness, ...] = ()
    near: tuple[Likeness, ...] = ()
    overruled: tuple[Evidence, ...] = ()


def explain(target: str | Path | Header | Folder, hints: Hints | None = None) -> Explanation:
    """A probe, and why it gave no other answer. Raises UnreadableModel as `probe` does."""
    if isinstance(target, (str, Path)):
        found, told = read_target(target)
        return _explain(found, told if hints is None else hints, Path(target))
    return _explain(target, hints)


def _explain(target: Header | Folder, hints: Hints | None, path: Path | None = None) -> Explanation:
    report = answer(target, hints, path)
    header = _judged(target)
    if header is None or not header.tensors:
        return Explanation(report)
    subject = Subject(header, hints)
    matched, near = likenesses(subject)
    return Explanation(report, tuple(matched), tuple(near[:NEAREST]), _overruled(subject, report))


def _judged(target: Header | Folder) -> Header | None:
    """The header that a folder's answer rests on."""
    if isinstance(target, Header):
        return target
    return next((target.headers[part] for part in ("", *DENOISERS) if part in target.headers), None)


def _overruled(subject: Subject, report: Report) -> tuple[Evidence, ...]:
    if report.family is None:
        return ()
    return tuple(
        Evidence("overruled", False, claim.source, report.family, claim.said)
        for claim in subject.claims
        if claim.family != report.family and claim.source != USER  # whose word is in the report
    )
