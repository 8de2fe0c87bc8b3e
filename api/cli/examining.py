"""`modelshelf doctor`."""

from __future__ import annotations

import typer

from api.cli.common import FAILED, Json
from api.cli.output import Line, print_json, print_lines

app = typer.Typer()

MARKS = {"ok": ("+", "green"), "note": ("~", "yellow"), "problem": ("-", "red")}


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look for what stands in the way: versions, folder, free space, database, Hub, service, device. Changes nothing.

    Exit 1 when something is a problem; what is only worth knowing is none.
    """
    from registry.checkup import Verdict, check_up
    from registry.settings import Settings

    found = []
    for check in check_up(Settings()):
        found.append(check)
        if not as_json:
            mark, style = MARKS[check.verdict]
            print_lines([Line(f"{check.name}: {check.found}", mark=mark, mark_style=style)])
            if check.advice:
                print_lines([Line(check.advice, indent=4)])
    if as_json:
        print_json([check._asdict() for check in found])
    raise typer.Exit(FAILED if any(check.verdict == Verdict.PROBLEM for check in found) else 0)
