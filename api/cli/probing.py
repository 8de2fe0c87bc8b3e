"""`modelshelf probe`: what are these files?"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import typer

from api.cli.common import Json, Source
from registry.errors import ModelshelfError

if TYPE_CHECKING:
    from probes import Report

UNREADABLE, NOT_IDENTIFIED = 2, 3  # exit codes

app = typer.Typer()


@app.command()
def probe(source: Source, as_json: Json = False) -> None:
    """Tell what files are, from their headers alone. Exit 0: all identified, 3: some not, 2: unreadable."""
    from probes import UnreadableModel
    from registry.installs.examine import probe_source
    from registry.settings import Settings

    settings, worst = Settings(), 0
    for text in source:
        try:
            report = probe_source(text, settings)
        except (UnreadableModel, ModelshelfError) as error:
            print(f"modelshelf: {text}: {error} [{error.code}]", file=sys.stderr)
            worst = UNREADABLE
            continue
        if as_json:
            print(json.dumps(report.as_dict() | {"source": text}))
        else:
            print(f"{text}: {_describe(report)}")
        if report.outcome != "identified" and worst != UNREADABLE:
            worst = NOT_IDENTIFIED
    raise typer.Exit(worst)


def _describe(report: Report) -> str:
    words = [
        report.kind,
        report.family,
        report.variant if report.variant != "normal" else None,
        report.layout,
        report.format,
    ]
    known = ", ".join(str(w) for w in words if w)
    return f"{known}: {report.reason}" if report.outcome == "identified" else f"{report.outcome}: {report.reason}"
