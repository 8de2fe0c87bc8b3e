"""What commands print with: tables, JSON, sizes, a bar that follows an install."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Column

    from api.cli.shelf import OnProgress
    from api.records import Event, Task

PIPED_WIDTH = 1000  # columns: what reads a pipe wants whole names and digests, not lines that fit a screen
UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")  # of bytes; 64 bits count up to 18.4 EB
NARROWEST = 20  # columns that text is still wrapped to: no word fits a terminal that is narrower


def is_plain() -> bool:
    """Whether nothing but text is wanted, no escape sequence whatever it is for (https://no-color.org)."""
    from registry.settings import Terminal

    return bool(Terminal().no_color)


def make_console(**options: Any) -> Console:
    from rich.console import Console

    return Console(color_system=None if is_plain() else "auto", **options)


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
    from rich.text import Text

    console = make_console(file=out, highlight=False)
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


def say(text: str, out: TextIO | None = None) -> None:
    """A line with strangers' words in it."""
    print(printable(text), file=out)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str] = ()) -> None:
    """`spare`: columns that are left out, the first first, until the others fit a terminal; it is said which, and that --json has them.
    Ids are never cut, other words folded."""
    from rich.table import Column, Table
    from rich.text import Text

    console = make_console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    shown = _fitting(head, rows, spare, console.width)
    columns = (Column(head[i], overflow="fold", no_wrap=head[i] == "id") for i in shown)
    table = Table(*columns, box=None, show_header=bool(head), pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(row[i])) for i in shown or range(len(row))))
    console.print(table)
    if missing := [name for i, name in enumerate(head) if i not in shown]:
        text = f"Left out for want of room: {', '.join(missing)}. A wider terminal or --json shows them."
        print_lines([Line(text, style="dim")], sys.stderr)


def _fitting(head: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str], width: int) -> list[int]:
    """Numbers of the columns that are shown."""
    from rich.cells import cell_len

    needs = {i: max(cell_len(cell) for cell in (name, *(row[i] for row in rows))) + 2 for i, name in enumerate(head)}
    for name in spare:
        if sum(needs.values()) - 2 > width:
            del needs[head.index(name)]
    return list(needs)


def print_json(value: Any) -> None:
    """A record of the client, or anything that JSON has; in ASCII, whatever the terminal shows."""
    from api.reading import plain

    print(json.dumps(plain(value), indent=2))


def size_text(count: float) -> str:
    """Three digits of the first unit that needs no more: 999.6 kB are 1 MB."""
    power = 0
    while float(f"{count:.3g}") >= 1000:
        count, power = count / 1000, power + 1
    return f"{count:.3g} {UNITS[power]}"


@contextmanager
def progress_bars() -> Iterator[Callable[[str], OnProgress]]:
    """Bars that follow installs through their states: called with a name, it adds one; it goes when its install has ended."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.fields[state]:<12}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[name]}", table_column=_shrinking()),
    )
    with _progress(*columns) as bars:

        def add(name: str) -> OnProgress:
            task = bars.add_task("", total=None, state="queued", name=printable(name))

            def follow(progress: Any) -> None:
                state, total = str(progress.state), progress.bytes_total or None
                shown = printable(progress.trouble or progress.filename or name)
                visible = state not in ("installed", "failed", "cancelled")
                bars.update(task, state=state, name=shown, completed=progress.bytes_done, total=total, visible=visible)

            return follow

        yield add


@contextmanager
def steps_bar() -> Iterator[Callable[[Event], None]]:
    """A bar that follows a generation by its events: waiting, loading, then step by step."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _progress(*columns) as bar:
        task = bar.add_task("queued", total=None)

        def follow(event: Event) -> None:
            if event.name == "running":
                bar.update(task, description="loading")
            elif event.name == "waiting":
                waits_for = event.data["for"]
                bar.update(task, description=f"waiting for {waits_for}" if waits_for else "loading")
            elif event.name == "step":
                bar.update(task, description="steps", completed=event.data["done"], total=event.data["total"])

        yield follow


@contextmanager
def counting_bar(doing: str) -> Iterator[Callable[[Task], None]]:
    """A bar that follows upkeep, model by model."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _progress(*columns) as bar:
        shown = bar.add_task(doing, total=None)
        yield lambda task: bar.update(shown, completed=task.done, total=task.total)


def _progress(*columns: ProgressColumn) -> Progress:
    """On standard error, when that is a terminal that may be steered. What is printed meanwhile stands above, unless it goes elsewhere."""
    from rich.progress import Progress

    console = make_console(stderr=True)
    return Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal or is_plain(),
        redirect_stdout=sys.stdout.isatty(),
    )


def _shrinking() -> Column:
    from rich.table import Column

    return Column(no_wrap=True, overflow="ellipsis", ratio=1)
