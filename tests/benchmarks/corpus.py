"""How many of the corpus's headers are told rightly (tests/probes/corpus): thousands that trainers, exporters and published
classes wrote, not this project's fixtures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from probes import Outcome
from tests.benchmarks.tables import Table
from tests.probes import corpus
from tests.probes.corpus import Verdict


def run(quick: bool) -> Iterator[Table]:
    counts: dict[str, Counter[Verdict]] = {}
    alike = 0
    for maker in corpus.makers():
        counts[maker] = Counter()
        for case in islice(corpus.cases(maker), 5 if quick else None):
            report = case.answer()
            verdict = case.judge(report)
            counts[maker][verdict] += 1
            alike += verdict is Verdict.OPEN and report.outcome is Outcome.IDENTIFIED
    total = sum(counts.values(), Counter[Verdict]())
    yield Table(
        f"{total.total():,} headers by who made them",
        ("", "headers", *Verdict),
        [_row(maker, count) for maker, count in counts.items()] + [_row("all", total), _shares(total)],
        (
            "right: kind and family, and, where the header tells, variant, prediction type, rank and layout.",
            "open: several families have these very tensors, and the answer names the right one among them;",
            f"in {alike} of them it names another, commoner one first (an SDXL LoRA, or one of Kolors).",
            "untold: unknown, or open without need. wrong: named as something that it is not.",
        ),
    )


def _row(name: str, count: Counter[Verdict]) -> tuple[str | int, ...]:
    return name, count.total(), *(count[verdict] for verdict in Verdict)


def _shares(total: Counter[Verdict]) -> tuple[str, ...]:
    return "", "", *(f"{100 * total[verdict] / total.total():.2f} %" for verdict in Verdict)
