"""`modelshelf install`, `modelshelf installs` and `modelshelf starter`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from api.cli.common import Json, Source, opened_manager
from api.cli.output import print_json, print_table, progress_bar, size_text
from registry.errors import AmbiguousChoice

if TYPE_CHECKING:
    from registry.installs.options import Options
    from registry.manager import Manager
    from registry.models import Model
    from registry.tables import Install

app = typer.Typer()
installs = typer.Typer(
    help="Installs under way and past: list, pause, resume, cancel, retry, discard.", no_args_is_help=True
)
app.add_typer(installs, name="installs")
starter = typer.Typer(help="The small models that ship with modelshelf.", no_args_is_help=True)
app.add_typer(starter, name="starter")


@app.command()
def install(
    source: Source,
    move: Annotated[bool, typer.Option("--move", help="Of files here: remove them when the shelf has them.")] = False,
    in_place: Annotated[
        bool,
        typer.Option("--in-place", help="Of files here: register them where they lie, as `scan` does with folders."),
    ] = False,
    variant: Annotated[
        str | None, typer.Option(help="Of a pipeline's weights, such as fp16; else the unmarked ones.")
    ] = None,
) -> None:
    """Install models: resolve, probe the header, download, verify, record."""
    from registry.installs.options import Options, Place

    if move and in_place:
        raise typer.BadParameter("--move and --in-place exclude each other.")
    place = Place.MOVE if move else Place.IN_PLACE if in_place else Place.COPY
    with opened_manager() as manager:
        for text in source:
            _install(manager, text, Options(place, variant))


def _install(manager: Manager, text: str, options: Options) -> None:
    try:
        with progress_bar() as on_progress:
            model = manager.install(text, on_progress, options)
    except AmbiguousChoice as error:
        if not sys.stdin.isatty():
            raise
        _install(manager, _ask(error.detail["candidates"]), options)
    else:
        _say_installed(model)


def _ask(candidates: list[dict[str, Any]]) -> str:
    """Which of several models in a source; its address."""
    rows = []
    for number, candidate in enumerate(candidates, 1):
        report = candidate["report"]
        what = ", ".join(str(report[k]) for k in ("kind", "family") if report.get(k)) or report["outcome"]
        rows.append((str(number), candidate["source"], what, size_text(candidate["size"])))
    print_table(("", "source", "what it is", "size"), rows)
    number = typer.prompt("Which one", type=click.IntRange(1, len(candidates)))
    return str(candidates[number - 1]["source"])


InstallId = Annotated[
    str, typer.Argument(help="Id of an install, as `modelshelf installs list` shows it.", show_default=False)
]


@installs.command("list")
def list_installs(as_json: Json = False) -> None:
    """The newest hundred, and how far they are."""
    with opened_manager() as manager:
        found = manager.installs.list()
    if as_json:
        print_json([install.model_dump(mode="json") for install in found])
    elif found:
        print_table(("id", "state", "done", "source", "error"), [_row(install) for install in found])


@installs.command()
def pause(install_id: InstallId) -> None:
    """Stop an install for now; what has arrived is kept."""
    _order(install_id, "pause")


@installs.command()
def cancel(install_id: InstallId) -> None:
    """Stop an install; what has arrived is kept for a while."""
    _order(install_id, "cancel")


@installs.command()
def resume(install_id: InstallId) -> None:
    """Go on with a paused install, here."""
    _go_on(install_id, "resume")


@installs.command()
def retry(install_id: InstallId) -> None:
    """Try an install again that failed or was cancelled, here."""
    _go_on(install_id, "retry")


@installs.command()
def discard(install_id: InstallId) -> None:
    """Forget an install, and delete what has arrived of it; the model that it became stays."""
    with opened_manager() as manager:
        manager.discard_install(install_id)


@starter.command("install")
def install_starter() -> None:
    """Install the starter models; needs no network."""
    with opened_manager() as manager, progress_bar() as on_progress:
        for model in manager.install_starter(on_progress):
            _say_installed(model)


def _order(install_id: str, command: str) -> None:
    with opened_manager() as manager:
        print(f"{install_id}  {manager.installs.command(install_id, command).state}")


def _go_on(install_id: str, command: str) -> None:
    with opened_manager() as manager, progress_bar() as on_progress:
        manager.installs.command(install_id, command)
        _say_installed(manager.run_install(install_id, on_progress))


def _row(install: Install) -> tuple[str, ...]:
    done = f"{install.bytes_done / install.bytes_total:.0%}" if install.bytes_total else ""
    return install.id, install.state, done, install.source, (install.error or {}).get("message", "")


def _say_installed(model: Model) -> None:
    print(f"{model.id}  {model.name}  {model.kind}, {model.family}, {size_text(model.size)}")
