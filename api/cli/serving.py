"""`modelshelf serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.opening import managed

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.", min=0, max=65535)] = None,
) -> None:
    """Start the service: its page is at the address that it prints, its API is described at /docs there.

    Ctrl-C or SIGTERM stops it, within some seconds and with exit status 0.

    Example: `modelshelf serve --port 8421`
    """
    from api.server import run
    from registry.settings import Settings

    settings = Settings()
    with managed(settings) as manager:
        run(manager, host or settings.host, settings.port if port is None else port)
