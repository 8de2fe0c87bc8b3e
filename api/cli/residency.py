"""`modelshelf ps`, `load` and `evict`: what the running service has in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from api.cli.common import Json, Reference
from api.cli.opening import chosen_server
from api.cli.output import print_json, print_table, size_text

if TYPE_CHECKING:
    from api.client import Client
    from api.records import Residency

app = typer.Typer()


@app.command()
def ps(json: Json = False) -> None:
    """What the running service has loaded: where, how big, and who works with it.

    Example: `modelshelf ps --json`
    """
    with _service() as service:
        _show(service.residency(), json)


@app.command()
def load(model: Reference, json: Json = False) -> None:
    """Load a checkpoint into the running service's memory, before somebody waits for it.

    Example: `modelshelf load starter-base`
    """
    with _service() as service:
        _show(service.load(model), json)


@app.command()
def evict(model: Reference, json: Json = False) -> None:
    """Free a model's memory in the running service.

    Example: `modelshelf evict starter-base`
    """
    with _service() as service:
        _show(service.evict(model), json)


@contextmanager
def _service() -> Iterator[Client]:
    """The one that was chosen, else the one that `modelshelf serve` starts here."""
    from api.client import Client
    from registry.settings import Settings

    settings = Settings()
    with Client(chosen_server(settings) or settings.address, settings.token) as service:
        yield service


def _show(residency: Residency, json: bool) -> None:
    if json:
        print_json(residency)
        return
    print_table(
        ("tier", "device", "used", "budget"),
        [(t.name, t.device, size_text(t.used), size_text(t.budget)) for t in residency.tiers],
    )
    print_table(
        ("model", "tier", "size", "in use by", "idle"),
        [(m.name, m.tier, size_text(m.nbytes), ", ".join(m.holders), f"{m.idle:.0f} s") for m in residency.models],
    )
