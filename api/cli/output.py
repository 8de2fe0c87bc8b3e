"""What commands print with: tables, JSON, sizes, a bar that follows an install."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry.generation import Job
    from registry.installs.worker import OnProgress

PIPED_WIDTH = 1000  # columns: what reads a pipe wants whole names and digests, not lines that fit a screen


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
