"""`modelshelf install` and `modelshelf starter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from api.cli.common import Source, opened_manager
from api.cli.output import progress_bar, size_text

if TYPE_CHECKING:
    from registry.tables import Model

app = typer.Typer()
starter = typer.Typer(help="The small models that ship with modelshelf.", no_args_is_help=True)
app.add_typer(starter, name="starter")


@app.command()
def install(source: Source) -> None:
    """Install models: resolve, probe the header, download, verify, record."""
    with opened_manager() as manager, progress_bar() as on_progress:
        for text in source:
            _say_installed(manager.install(text, on_progress))


@starter.command("install")
def install_starter() -> None:
    """Install the starter models; needs no network."""
    with opened_manager() as manager, progress_bar() as on_progress:
        for model in manager.install_starter(on_progress):
            _say_installed(model)


def _say_installed(model: Model) -> None:
    print(f"{model.id}  {model.name}  {model.kind}, {model.family}, {size_text(model.size)}")
