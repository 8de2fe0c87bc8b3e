"""`modelshelf doctor`."""

from __future__ import annotations

import typer

from api.cli.common import FAILED, Json
from api.cli.opening import opened_shelf
from api.cli.output import Line, print_json, print_lines

app = typer.Typer()

MARKS = {"ok": ("+", "green"), "note": ("~", "yellow"), "problem": ("-", "red")}


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look for what stands in the way: versions, folder, free space, database, Hub, service, device. Changes nothing.

    With --server it is the service's machine that is looked at. Exit 1 when something is a problem; what is only worth knowing is none.

    Example: `modelshelf doctor`
    """
    found = []
    with opened_shelf() as shelf:
        for check in shelf.check_up():
            found.append(check)
            if not as_json:
                mark, style = MARKS[check.verdict]
                print_lines([Line(f"{check.name}: {check.found}", mark=mark, mark_style=style)])
                if check.advice:
                    print_lines([Line(check.advice, indent=4)])
    if as_json:
        print_json(found)
    raise typer.Exit(FAILED if any(check.verdict == "problem" for check in found) else 0)
