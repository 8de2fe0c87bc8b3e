"""`modelshelf install`, `modelshelf installs` and `modelshelf starter`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from api.cli.common import FAILED, Family, Json, Kind, Source
from api.cli.opening import opened_shelf
from api.cli.output import print_json, print_table, progress_bars, say, size_text
from api.cli.shelf import Shelf
from registry.errors import AmbiguousChoice, ModelshelfError, NotIdentified
from registry.words import WORDS

if TYPE_CHECKING:
    from api.records import Install, Model
    from registry.installs.options import Options

    Wish: TypeAlias = tuple[str, Options]
    """A source, and how it is to be installed."""

app = typer.Typer()
installs = typer.Typer(
    help="Installs under way and past: list, pause, resume, cancel, retry, discard.\n\nExample: `modelshelf installs list`",
    no_args_is_help=True,
)
app.add_typer(installs, name="installs")
starter = typer.Typer(
    help="The small models that ship with modelshelf.\n\nExample: `modelshelf starter install`", no_args_is_help=True
)
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
    family: Family = None,
    kind: Kind = None,
    as_json: Json = False,
) -> None:
    """Install models: resolve, probe the header, download, verify, record. Several sources are installed side by side.

    What is not a model, or not one that is taken, is refused before it is downloaded; one that fails leaves the others alone.
    Where the header leaves open what a LoRA is for, --family says it (of all sources); on a terminal you are asked.
    Ctrl-C pauses: what has arrived is kept, and `modelshelf installs resume` goes on with it.

    Example: `modelshelf install https://huggingface.co/latent-consistency/lcm-lora-sdv1-5 OWNER/REPO ./file.safetensors`
    """
    from registry.installs.options import Options, Place

    if move and in_place:
        raise typer.BadParameter("--move and --in-place exclude each other.")
    place = Place.MOVE if move else Place.IN_PLACE if in_place else Place.COPY
    options = Options(place, variant, family=family, kind=kind)
    wanted: list[Wish] = [(text, options) for text in dict.fromkeys(source)]
    done: list[Model] = []
    failed: list[ModelshelfError] = []
    with opened_shelf() as shelf, _pausing(shelf):
        may_ask = not as_json and sys.stdin.isatty() and sys.stdout.isatty()  # a pipe would swallow the question
        while wanted:  # again what was asked about
            more, refused = _install_all(shelf, wanted, as_json)
            done += more
            answers = [_asked(wish, error) if may_ask else None for wish, error in refused]
            failed += [error for (_, error), answer in zip(refused, answers, strict=True) if answer is None]
            wanted = [answer for answer in answers if answer is not None]
    if as_json:
        print_json(done)
    for error in failed:
        say(f"modelshelf: {error.message} [{error.code}]", sys.stderr)
    raise typer.Exit(FAILED if failed else 0)


@contextmanager
def _pausing(shelf: Shelf) -> Iterator[None]:
    """What Ctrl-C stops is paused, and it is said how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        shelf.interrupt()
        for install in shelf.interrupted():
            say(
                f"modelshelf: {install.source} is paused, what has arrived is kept. `modelshelf installs resume {install.id}` goes on.",
                sys.stderr,
            )
        raise


def _install_all(
    shelf: Shelf, wanted: Sequence[Wish], quiet: bool
) -> tuple[list[Model], list[tuple[Wish, ModelshelfError]]]:
    """What was installed, and why the others were not, both in the order in which they ended."""
    from registry.settings import Settings

    done: list[Model] = []
    failed: list[tuple[Wish, ModelshelfError]] = []
    with progress_bars() as add, ThreadPoolExecutor(Settings().installs_at_once) as pool:
        try:  # from the first that is submitted on: leaving the pool waits for what runs in it
            running = {
                pool.submit(shelf.install, text, add(text), options): (text, options) for text, options in wanted
            }
            for future in as_completed(running):
                try:
                    done.append(future.result())
                except ModelshelfError as error:
                    failed.append((running[future], error))
                else:
                    if not quiet:
                        _say_installed(done[-1])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            shelf.interrupt()
            raise
    return done, failed


def _asked(wish: Wish, error: ModelshelfError) -> Wish | None:
    """What is to be installed instead of what was refused, as the user says now; None: there is nothing to choose."""
    text, options = wish
    candidates = error.detail.get("candidates") or []
    if isinstance(error, AmbiguousChoice):
        return _which_file(candidates), options
    if isinstance(error, NotIdentified) and candidates:
        say(f"The header of {text} leaves open what it is:")
        said = _pick(("family", "kind"), [(c["family"], c["kind"]) for c in candidates], candidates)
        telling = {word: said[word] for word in WORDS if len({candidate[word] for candidate in candidates}) > 1}
        return text, replace(options, **telling)
    return None


def _which_file(candidates: list[dict[str, Any]]) -> str:
    """Which of several models in a source; its address."""
    rows = []
    for candidate in candidates:
        report = candidate["report"]
        families = [choice["family"] for choice in report.get("choices", ())] or [report.get("family")]
        what = ", ".join(filter(None, (report.get("kind"), " or ".join(filter(None, dict.fromkeys(families))))))
        rows.append((candidate["source"], what or report["outcome"], size_text(candidate["size"])))
    return str(_pick(("source", "what it is", "size"), rows, candidates)["source"])


def _pick(
    columns: Sequence[str], rows: Sequence[tuple[str, ...]], candidates: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The one of the candidates, each a row, that the user names by its number."""
    print_table(("", *columns), [(str(number), *row) for number, row in enumerate(rows, 1)])
    number = 0
    while not 1 <= number <= len(candidates):
        number = typer.prompt(f"Which one (1 to {len(candidates)})", type=int)
    return candidates[number - 1]


InstallId = Annotated[
    str, typer.Argument(help="Id of an install, as `modelshelf installs list` shows it.", show_default=False)
]


@installs.command("list")
def list_installs(as_json: Json = False) -> None:
    """All, the newest first, and how far they are.

    Example: `modelshelf installs list`
    """
    with opened_shelf() as shelf:
        found = [*shelf.installs()]
    if as_json:
        print_json(found)
    elif found:
        print_table(("id", "state", "done", "source", "error"), [_row(install) for install in found])


@installs.command()
def pause(install_id: InstallId) -> None:
    """Stop an install for now; what has arrived is kept.

    Example: `modelshelf installs pause 3f2a91c04b7d`
    """
    _order(install_id, "pause")


@installs.command()
def cancel(install_id: InstallId) -> None:
    """Stop an install; what has arrived is kept for a while.

    Example: `modelshelf installs cancel 3f2a91c04b7d`
    """
    _order(install_id, "cancel")


@installs.command()
def resume(install_id: InstallId) -> None:
    """Go on with a paused install, to its end.

    Example: `modelshelf installs resume 3f2a91c04b7d`
    """
    _go_on(install_id, "resume")


@installs.command()
def retry(install_id: InstallId) -> None:
    """Try an install again that failed or was cancelled.

    Example: `modelshelf installs retry 3f2a91c04b7d`
    """
    _go_on(install_id, "retry")


@installs.command()
def discard(install_id: InstallId) -> None:
    """Forget an install, and delete what has arrived of it; the model that it became stays.

    Example: `modelshelf installs discard 3f2a91c04b7d`
    """
    with opened_shelf() as shelf:
        shelf.discard_install(install_id)


@starter.command("install")
def install_starter() -> None:
    """Install the starter models; needs no network.

    Example: `modelshelf starter install`
    """
    with opened_shelf() as shelf, _pausing(shelf), progress_bars() as add:
        for model in shelf.install_starter(add("starter models")):
            _say_installed(model)


def _order(install_id: str, command: str) -> None:
    with opened_shelf() as shelf:
        print(f"{install_id}  {shelf.order_install(install_id, command).state}")


def _go_on(install_id: str, command: str) -> None:
    with opened_shelf() as shelf, _pausing(shelf), progress_bars() as add:
        install = shelf.order_install(install_id, command)
        _say_installed(shelf.finish_install(install_id, add(install.source)))


def _row(install: Install) -> tuple[str, ...]:
    done = f"{install.bytes_done / install.bytes_total:.0%}" if install.bytes_total else ""
    return install.id, install.state, done, install.source, install.error.detail if install.error else ""


def _say_installed(model: Model) -> None:
    say(f"{model.id}  {model.name}  {model.kind}, {model.family}, {size_text(model.size)}")
