"""`modelshelf scan`: folders of one's own, registered where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.common import Json, opened_manager
from api.cli.output import print_json

if TYPE_CHECKING:
    from registry.scans.scanner import Counts

app = typer.Typer()


@app.command()
def scan(
    folder: Annotated[
        list[Path] | None, typer.Argument(help="Left out: every folder that was scanned before.", show_default=False)
    ] = None,
    afresh: Annotated[bool, typer.Option("--afresh", help="Look at unchanged files again, too.")] = False,
    hash_now: Annotated[
        bool, typer.Option("--hash", help="Compute the digests now; else `modelshelf serve` does it in the background.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Register the models in folders of yours, in place: ComfyUI's, A1111's, any. Nothing is copied, moved or deleted."""
    told = {}
    with opened_manager() as manager:
        for path in folder if folder else map(Path, manager.scans.folders()):
            told[str(path)] = manager.scans.scan(path, afresh=afresh)
        if hash_now:
            for model in manager.scans.digester.hash_all():
                if not as_json:
                    print(f"hashed {model.name}")
    if as_json:
        print_json({path: counts.as_dict() for path, counts in told.items()})
        return
    for scanned, counts in told.items():
        print(f"{scanned}: {_describe(counts)}")


def _describe(counts: Counts) -> str:
    said = [f"{count} {name}" for name, count in counts.as_dict().items() if count]
    return ", ".join(said) or "nothing there"
