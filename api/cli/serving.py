"""`modelshelf serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.common import opened_manager

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
) -> None:
    """Start the service; its API is described at /docs."""
    from api.server import run

    with opened_manager() as manager:
        run(manager, host or manager.settings.host, manager.settings.port if port is None else port)
