"""`modelshelf scan`, `verify`, `duplicates`, `gc` and `update`: what is on the shelf, and in what state."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.common import FAILED, EveryReference, Json
from api.cli.opening import opened_shelf
from api.cli.output import counting_bar, print_json, print_table, say, size_text

if TYPE_CHECKING:
    from api.records import Removed, Scan, Task, Waste

app = typer.Typer()


@app.command()
def scan(
    folder: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Left out: every folder that was scanned before; of a server's the last 1000.", show_default=False
        ),
    ] = None,
    afresh: Annotated[bool, typer.Option("--afresh", help="Look at unchanged files again, too.")] = False,
    hash_now: Annotated[
        bool, typer.Option("--hash", help="Compute the digests now; else `modelshelf serve` does it in the background.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Register the models in folders of yours, in place: ComfyUI's, A1111's, any. Nothing is copied, moved or deleted.

    Against a server, the folders are the server's, and must be among those that it may be asked to scan.

    Example: `modelshelf scan ~/ComfyUI/models --hash`
    """
    with opened_shelf() as shelf:
        told = {path: shelf.scan(path, afresh=afresh) for path in map(str, folder or shelf.scan_folders())}
    hashed = _upkeep("hash", None).findings if hash_now else []
    if as_json:
        print_json({path: {**scan.counts, "skips": scan.skips} for path, scan in told.items()})
        return
    for path, scan in told.items():
        say(f"{path}: {_counted(scan.counts) or 'nothing there'}{_skipped(scan)}")
    for found in hashed:
        say(f"{found.outcome} {found.name}")


def _skipped(scan: Scan) -> str:
    """`: 2 pickles (a.ckpt, old/b.ckpt), 1 truncated (c.safetensors)`, paths as they are in the folder."""
    from registry.scans.skips import in_words

    root = Path(scan.folder).resolve()
    told = []
    for words, count, examples in in_words((skip.reason, skip.count, skip.examples) for skip in scan.skips):
        names = [
            str(path.relative_to(root)) if path.is_relative_to(root) else str(path) for path in map(Path, examples)
        ]
        told.append(f"{words} ({', '.join(names)}{', ...' if count > len(names) else ''})")
    return f": {', '.join(told)}" if told else ""


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


@app.command()
def verify(model: EveryReference = None, as_json: Json = False) -> None:
    """Read models' files again and compare their digests. Exit 1 when a file is damaged, missing or unreadable.

    Example: `modelshelf verify starter-base starter-heart`
    """
    task = _upkeep("verify", model)
    if as_json:
        print_json(task)
    else:
        for found in task.findings:
            say(f"{found.outcome:<10} {found.name}{': ' if found.reason else ''}{found.reason}")
        print(_counted(task.counts) or "There is nothing to verify.")
    raise typer.Exit(FAILED if task.findings else 0)


def _upkeep(kind: str, models: list[str] | None) -> Task:
    with opened_shelf() as shelf, counting_bar(kind) as follow:
        return shelf.run_task(kind, models or [], follow)


@app.command()
def duplicates(as_json: Json = False) -> None:
    """List what is there twice: the same file, or the same weights under another header. Models that were not hashed yet are not seen.

    Example: `modelshelf duplicates`
    """
    with opened_shelf() as shelf:
        found = shelf.duplicates()
        rows = [
            (g.same, g.digest[:12], m.id, m.name, size_text(m.size), shelf.locate(m.path))
            for g in found.duplicates
            for m in g.models
        ]
    if as_json:
        print_json(found.duplicates)
    elif rows:
        print_table(("same", "digest", "id", "name", "size", "path"), rows)
    else:
        print("Nothing is there twice.", file=sys.stderr)
    if found.unhashed:
        print(
            f"{found.unhashed} models are not hashed yet, and were not compared: `modelshelf verify` hashes them.",
            file=sys.stderr,
        )


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; else it is only shown.")] = False, as_json: Json = False
) -> None:
    """Show, and with --yes remove, the files that modelshelf put on its shelf and no model refers to any more. No others are touched.

    Example: `modelshelf gc --yes`
    """
    with opened_shelf() as shelf:
        waste = shelf.waste()
        removed = shelf.remove_waste() if yes else None
        files = [(shelf.locate(file.path), file.size) for file in waste.files]
    if as_json:
        print_json({"waste": waste, "removed": removed})
        return
    for path, size in files:
        say(f"{size_text(size):>9}  {path}")
    print(_waste_text(removed or waste, "Removed" if removed else "Without --yes nothing is removed:"))


def _waste_text(found: Waste | Removed, said: str) -> str:
    if not (found.count or found.verdicts):
        return "There is nothing to remove."
    stale = f", and {found.verdicts} comparisons with models that are gone" if found.verdicts else ""
    return f"{said} {found.count} file{'' if found.count == 1 else 's'}, {size_text(found.size)}{stale}."


@app.command()
def update(
    model: EveryReference = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Install what is newer; else it is only listed.")] = False,
    as_json: Json = False,
) -> None:
    """List the models whose files are newer on the Hub, by their SHA-256. The older version stays, with its commit behind its name.

    Exit 1 when one that is newer could not be fetched.

    Example: `modelshelf update --fetch`
    """
    task = _upkeep("update" if fetch else "check-updates", model)
    if as_json:
        print_json(task)
    elif task.findings:
        print_table(("id", "name", "change", ""), [(f.model_id, f.name, f.outcome, f.reason) for f in task.findings])
    else:
        print("Everything from the Hub is as new as there.", file=sys.stderr)
    raise typer.Exit(FAILED if task.counts.get("failed") else 0)
