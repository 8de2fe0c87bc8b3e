"""The text of `modelshelf probe --explain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from api.cli.output import Line

if TYPE_CHECKING:
    from probes import Evidence, Explanation, Likeness, Refutation, Report

COLOURS = {"identified": "green", "ambiguous": "yellow", "unknown": "yellow", "unusable": "red"}
_TELLING = ("width", "cross_attention", "fits", "paths", "blocks")
"""Rules that say most about a likeness, first of all."""


def describe(report: Report) -> str:
    """What a model is, in a line: "sd-1 lora, kohya names, rank 16, safetensors"; "" for what is not identified. Families of the same
    layers, which it may be for as well, follow: "sdxl lora or kolors, ..."."""
    if report.outcome != "identified":
        return ""
    others = [choice.family for choice in report.choices[1:]]
    words = [
        " ".join(word for word in (report.family, report.kind) if word) + "".join(f" or {family}" for family in others),
        report.variant if report.variant != "normal" else None,
        f"{report.layout} names" if report.layout else None,
        f"rank {report.rank}" if report.rank else None,
        report.format,
        *report.tags,
    ]
    return ", ".join(word for word in words if word)


def explanation_lines(source: str, explanation: Explanation) -> Iterator[Line]:
    report = explanation.report
    yield Line(f"{source}: {report.outcome}", style=f"bold {COLOURS[report.outcome]}")
    yield Line(describe(report) or report.reason, indent=2)
    if report.outcome == "identified":
        yield from _prediction(report)
    if report.outcome == "ambiguous":
        for like in explanation.matched:
            yield from _section(f"Fits {like.name}", like.held)
    else:
        yield from _section("Because", [e for e in report.evidence if not e.rule.startswith("not ")])
    if explanation.near:
        yield Line("Nearly", indent=2, style="bold")
        yield from (Line(_nearly(like), indent=4, mark="~") for like in explanation.near)
    if report.traits:
        yield Line("Accelerations", indent=2, style="bold")
        for trait in report.traits:
            said = "; ".join(_sentences(trait.evidence))
            yield Line(f"{trait.name}, confidence {trait.confidence:.2f}: {said}", indent=4, mark="~")
    if explanation.overruled:
        yield from _section("Overruled: a name never beats a shape", explanation.overruled)


def _prediction(report: Report) -> Iterator[Line]:
    if report.prediction_type:
        yield Line(f"predicts {report.prediction_type}", indent=2)
    elif report.kind == "checkpoint":
        usual = report.default_prediction_type
        more = f"; usual for the family: {usual}" if usual else ""
        yield Line(f"what it predicts, the file does not tell{more}", indent=2)


def _section(title: str, evidence: Iterable[Evidence]) -> Iterator[Line]:
    from probes import sentence

    evidence = list(evidence)
    if evidence:
        yield Line(title, indent=2, style="bold")
    for piece in evidence:
        mark, style = ("+", "green") if piece.ok else ("-", "red")
        yield Line(sentence(piece), indent=4, mark=mark, mark_style=style)


def _nearly(like: Likeness) -> str:
    telling = sorted((e for e in like.held if e.rule in _TELLING), key=lambda evidence: _TELLING.index(evidence.rule))
    against = "; ".join(map(_refuted, like.refuted))
    if not telling:
        # Names are all there where widths are not; never "100 %, but".
        there = (
            "all the names that it asks for are"
            if like.share == 1
            else f"{int(100 * like.share)}% of what it asks for is"
        )
        return f"{like.name}: {there} there, but {against}"
    return f"{like.name}: {next(_sentences(telling))}, but {against}"


def summary(report: Report) -> str:
    """An answer in a line."""
    what = describe(report)
    if not what:
        return f"{report.outcome}: {report.reason}"
    return f"{what}: {report.reason.partition(': ')[2]}"  # the reason begins with what it is, too


def _refuted(refutation: Refutation) -> str:
    text = next(_sentences([refutation.evidence]))
    if refutation.extent:
        count, total = refutation.extent
        text += f" ({count} of {total} modules are not)"
    if refutation.shared:
        from probes.wording import listed

        text += f", as in {listed(refutation.shared)}"
    return text


def _sentences(evidence: Iterable[Evidence]) -> Iterator[str]:
    from probes import sentence

    return map(sentence, evidence)
