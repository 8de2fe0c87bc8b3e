"""What every benchmark shares: timing contenders side by side, and tables."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Cell = str | int | float


@dataclass(frozen=True)
class Table:
    """A titled table; numbers are right-aligned, fractions with three significant digits."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        texts = [[_text(cell) for cell in row] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(self.columns, *texts, strict=True)]
        right = [all(not isinstance(row[i], str) for row in self.rows) for i in range(len(widths))]
        lines = [
            "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
            for row in [list(self.columns), ["-" * width for width in widths], *texts]
        ]
        return "\n".join([self.title, *lines, *self.notes])


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def side_by_side(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of this process for each contender. They take turns, each round from another one on, so that a
    busy machine and a warming cache burden all alike; one round before is not counted."""
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            contender = contenders[name]
            start = time.process_time()
            contender()
            spent = time.process_time() - start
            if turn >= 0:
                seconds[name].append(spent)
    return {name: median(spent) for name, spent in seconds.items()}


def machine() -> str:
    """Where figures come from, which they must be quoted with."""
    return (
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}; CPU times are medians of this process' own, taken side by side"
    )
