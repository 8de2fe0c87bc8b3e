"""What commands print with: tables, JSON, sizes, a bar that follows an install."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from registry.generation import Job
    from registry.installs.worker import OnProgress

PIPED_WIDTH = 1000  # columns: what reads a pipe wants whole names and digests, not lines that fit a screen
NARROWEST = 20  # columns that text is still wrapped to: no word fits a terminal that is narrower


@dataclass(frozen=True, slots=True)
class Line:
    """A paragraph that is wrapped to the terminal, with its mark hanging before it."""

    text: str
    indent: int = 0
    mark: str = ""
    style: str = ""
    mark_style: str = ""


def print_lines(lines: Iterable[Line], out: TextIO | None = None) -> None:
    """Wrapped to a terminal, whole to a pipe; in colour unless NO_COLOR forbids it."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out, highlight=False)
    width = max(console.width, NARROWEST) if console.is_terminal else PIPED_WIDTH
    for line in lines:
        start = " " * line.indent
        room = max(width - line.indent - (2 if line.mark else 0), NARROWEST // 2)
        wrapped = (
            textwrap.wrap(printable(line.text), room, break_on_hyphens=False)
            if console.is_terminal
            else [printable(line.text)]
        )
        for number, part in enumerate(wrapped):
            mark = (line.mark if number == 0 else " ") + " " if line.mark else ""
            console.print(Text.assemble(start, (mark, line.mark_style), (part, line.style)), soft_wrap=True)


def printable(text: str) -> str:
    """Names and metadata are strangers' words: no character of theirs may steer the terminal or break a line."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, show_header=bool(head), pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(table, markup=False)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def size_text(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


@contextmanager
def progress_bar() -> Iterator[OnProgress]:
    """A bar that follows an install through its states."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.fields[state]:<12}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[filename]}"),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False
    ) as bar:
        task = bar.add_task("", total=None, state="queued", filename="")

        def follow(progress: Any) -> None:
            total = progress.bytes_total or None
            bar.update(
                task,
                state=str(progress.state),
                filename=progress.filename or "",
                completed=progress.bytes_done,
                total=total,
            )

        yield follow


@contextmanager
def steps_bar() -> Iterator[Callable[[Job], None]]:
    """A bar that follows a generation: waiting, loading, then step by step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False
    ) as bar:
        task = bar.add_task("queued", total=None)
        yield lambda job: bar.update(
            task, description="steps" if job.total else "loading", completed=job.done, total=job.total or None
        )
