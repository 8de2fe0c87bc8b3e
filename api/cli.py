"""The command `modelshelf`. Heavy imports stay inside the commands that need them: `--help` and `list` must be quick."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from registry.errors import ModelshelfError

if TYPE_CHECKING:
    from probes import Report
    from registry.installs.worker import OnProgress
    from registry.manager import Manager
    from registry.recipes import Plan
    from registry.tables import Model

app = typer.Typer(
    name="modelshelf",
    help="Model manager and registry service for diffusion models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
starter = typer.Typer(help="The small models that ship with modelshelf.", no_args_is_help=True)
app.add_typer(starter, name="starter")

FAILED, UNREADABLE, NOT_IDENTIFIED = 1, 2, 3  # exit codes; the last two are those of `probe`

PIPED_WIDTH = 1000  # columns: what reads a pipe wants whole names and digests, not lines that fit a screen

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Reference = Annotated[str, typer.Argument(help="Id or name of a model.", show_default=False)]
Source = Annotated[
    list[str],
    typer.Argument(
        help="Hugging Face URL, hf://OWNER/REPO, OWNER/REPO, https URL of a file, or a path.", show_default=False
    ),
]


def main() -> None:
    """Entry point: every error that a user can do something about is one line and a non-zero exit."""
    from pydantic import ValidationError

    try:
        app()
    except ModelshelfError as error:
        _complain(f"{error.message} [{error.code}]")
    except ValidationError as error:  # of the settings: the only model that the command line validates by itself
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        _complain(f"A setting in the environment cannot be used: {wrong}. [invalid_setting]")
    except OSError as error:
        _complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}. [os_error]")


def _complain(message: str) -> NoReturn:
    print(f"modelshelf: {message}", file=sys.stderr)
    sys.exit(FAILED)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
) -> None:
    """Start the service; its API is described at /docs."""
    from api.server import run

    with _manager() as manager:
        run(manager, host or manager.settings.host, manager.settings.port if port is None else port)


@app.command()
def install(source: Source) -> None:
    """Install models: resolve, probe the header, download, verify, record."""
    with _manager() as manager, _progress() as on_progress:
        for text in source:
            _say_installed(manager.install(text, on_progress))


@starter.command("install")
def install_starter() -> None:
    """Install the starter models; needs no network."""
    with _manager() as manager, _progress() as on_progress:
        for model in manager.install_starter(on_progress):
            _say_installed(model)


@app.command("list")
def list_models(
    kind: Annotated[str | None, typer.Option(help="checkpoint, lora or lcm_lora.")] = None,
    family: Annotated[str | None, typer.Option(help="Base-model family, such as sd-1 or sdxl.")] = None,
    text: Annotated[
        str | None, typer.Option("--search", help="Looked for in names, repositories and triggers.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the installed models."""
    with _manager() as manager:
        models = manager.catalog.list(kind=kind, family=family, text=text, limit=10_000)
    if as_json:
        _print_json([_model_dict(m) for m in models])
    elif models:
        _table(("id", "name", "kind", "family", "format", "size", "weight", "triggers"), [_row(m) for m in models])
    elif kind or family or text:
        print("No installed model is so.", file=sys.stderr)
    else:
        print("Nothing is installed yet. Try: modelshelf starter install", file=sys.stderr)


@app.command()
def show(model: Reference, as_json: Json = False) -> None:
    """Show one model: digests, source, what its provider recommends, and why it was classified so."""
    with _manager() as manager:
        found = manager.catalog.get(model)
        path = manager.catalog.path(found)
    if as_json:
        _print_json(_model_dict(found) | {"files": found.files, "report": found.report})
        return
    facts = {
        k: v
        for k, v in _model_dict(found).items()
        if v not in (None, [], {}) and k not in {"recipe", "path", "overrides"}
    }
    facts["path"] = path
    facts |= {f"your {k}": v for k, v in found.overrides.items()}
    facts |= {f"recommended {k}": f"{v['value']} ({v['by']}: “{v['quote']}”)" for k, v in found.recipe.items()}
    facts["why"] = found.report["reason"]
    _table((), [(name, str(value)) for name, value in facts.items()])


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


@app.command("set")
def set_overrides(
    model: Reference,
    weight: Annotated[float | None, typer.Option(help="Weight of a LoRA when none is asked for.")] = None,
    steps: int | None = None,
    cfg: float | None = None,
    scheduler: str | None = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget your settings for it first.")] = False,
) -> None:
    """Keep your own settings for a model; they beat its provider's recommendation."""
    from registry.recipes import check_overrides

    given = {"weight": weight, "steps": steps, "cfg": cfg, "scheduler": scheduler}
    wanted = check_overrides({k: v for k, v in given.items() if v is not None})
    with _manager() as manager:
        changed = manager.catalog.override(model, (dict.fromkeys(given) if reset else {}) | wanted)
    print(f"{changed.name}: {', '.join(f'{k} {v}' for k, v in changed.overrides.items()) or 'no settings of your own'}")


@app.command()
def compatible(
    checkpoint: Reference,
    all_: Annotated[bool, typer.Option("--all", help="Also those that do not fit, and why not.")] = False,
    as_json: Json = False,
) -> None:
    """List the LoRAs that fit a checkpoint, each with the reason."""
    with _manager() as manager:
        verdicts = [(m, fit) for m, fit in manager.compatible_loras(checkpoint) if fit.fits or all_]
    if as_json:
        _print_json([_model_dict(m) | {"fits": fit.fits, "reason": fit.reason} for m, fit in verdicts])
    elif verdicts:
        _table(
            ("id", "name", "kind", "fits", "reason"),
            [(m.id, m.name, m.kind, "yes" if f.fits else "no", f.reason) for m, f in verdicts],
        )
    else:
        print("No installed LoRA fits it. `modelshelf compatible --all` says why not.", file=sys.stderr)


@app.command()
def generate(
    checkpoint: Reference,
    prompt: Annotated[str, typer.Argument(help="What to draw.", show_default=False)],
    lora: Annotated[list[str] | None, typer.Option(help="NAME or NAME:WEIGHT; may be repeated.")] = None,
    negative: Annotated[str, typer.Option(help="What not to draw.")] = "",
    steps: int | None = None,
    cfg: float | None = None,
    scheduler: str | None = None,
    seed: int | None = None,
    width: int | None = None,
    height: int | None = None,
    n: Annotated[int, typer.Option("-n", help="Number of pictures.")] = 1,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures.")] = Path(),
) -> None:
    """Make pictures. What is left out is decided by the recipes, and shown."""
    from registry.recipes import AdapterRequest, GenerationRequest

    adapters = tuple(AdapterRequest(*_name_and_weight(text)) for text in lora or ())
    request = GenerationRequest(checkpoint, prompt, negative, adapters, steps, cfg, scheduler, seed, width, height, n)
    with _manager() as manager:
        made = manager.generator.generate(request)
    _show_plan(made.plan)
    output.mkdir(parents=True, exist_ok=True)
    for picture in made.pictures:
        path = _free(output / f"{made.plan.checkpoint_name}-{picture.seed}.png")
        path.write_bytes(picture.png)
        print(path)
    print(f"{made.timings['total']:.2f} s", file=sys.stderr)


# -- printing


@contextmanager
def _manager() -> Iterator[Manager]:
    from registry.manager import build_manager

    manager = build_manager()
    try:
        yield manager
    finally:
        manager.close()


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar that follows an install through its states."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.fields[state]:<12}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[filename]}"),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False
    ) as bar:
        task = bar.add_task("", total=None, state="queued", filename="")

        def follow(progress: Any) -> None:
            total = progress.bytes_total or None
            bar.update(
                task,
                state=str(progress.state),
                filename=progress.filename or "",
                completed=progress.bytes_done,
                total=total,
            )

        yield follow


def _free(path: Path) -> Path:
    """`path`, or with a number when there is one already: nothing that somebody made is overwritten."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(p for p in chain([path], numbered) if not p.exists())


def _say_installed(model: Model) -> None:
    print(f"{model.id}  {model.name}  {model.kind}, {model.family}, {_size(model.size)}")


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


def _show_plan(plan: Plan) -> None:
    values = [(f"weight of {a.name}", a.weight) for a in plan.adapters]
    values += [(name, getattr(plan, name)) for name in ("scheduler", "steps", "cfg", "seed", "width", "height")]
    _table(
        ("", "value", "origin", "by"),
        [(name, f"{v.value:g}" if isinstance(v.value, float) else str(v.value), v.origin, v.by) for name, v in values],
    )
    for note in plan.notes:
        print(f"Note: {note}")


def _name_and_weight(text: str) -> tuple[str, float | None]:
    """NAME or NAME:WEIGHT; a colon that no number follows belongs to the name."""
    name, colon, weight = text.rpartition(":")
    try:
        return (name, float(weight)) if colon else (text, None)
    except ValueError:
        return text, None


def _model_dict(model: Model) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude={"files", "report"})


def _row(model: Model) -> tuple[str, ...]:
    from registry.recipes import adapter_weight

    weight = "" if model.kind == "checkpoint" else f"{adapter_weight(model).value:g}"
    return (
        model.id,
        model.name,
        model.kind,
        model.family,
        model.format,
        _size(model.size),
        weight,
        ", ".join(model.triggers),
    )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, show_header=bool(head), pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(table, markup=False)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
