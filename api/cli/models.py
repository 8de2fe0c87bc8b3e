"""`modelshelf list`, `show`, `compatible`, `set` and `delete`: what is installed."""

from __future__ import annotations

import sys
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.common import Cfg, Family, Json, Kind, Reference, References, SchedulerName, Steps
from api.cli.opening import opened_shelf
from api.cli.output import print_json, print_table, say, size_text
from registry.errors import InvalidRequest

if TYPE_CHECKING:
    from api.records import Model, ModelDetail

app = typer.Typer()

_COLUMNS = ("id", "name", "kind", "family", "format", "size", "weight", "triggers")
_SPARE = ("format", "triggers", "weight", "family", "size")  # left out in this order where the terminal is too narrow
_YES_NO = {"fits": "yes", "partly": "partly", "no": "no"}


@app.command("list")
def list_models(
    kind: Annotated[str | None, typer.Option(help="checkpoint, lora or lcm_lora.")] = None,
    family: Annotated[str | None, typer.Option(help="Base-model family, such as sd-1 or sdxl.")] = None,
    tag: Annotated[str | None, typer.Option(help="As a probe or you gave it.")] = None,
    text: Annotated[
        str | None, typer.Option("--search", help="Words looked for in names, repositories, triggers, tags, titles.")
    ] = None,
    digest: Annotated[str | None, typer.Option(help="Of any kind, or its first 6 digits or more.")] = None,
    sort: Annotated[str, typer.Option(help="name, created or size; with - in front from the end.")] = "name",
    limit: Annotated[int | None, typer.Option(help="At most so many.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """List the installed models.

    Example: `modelshelf list --kind lora --family sd-1 --search outline`
    """
    with opened_shelf() as shelf:
        every = shelf.models(kind=kind, family=family, tag=tag, q=text, digest=digest, sort=sort)
        models = list(islice(every, limit))
    if as_json:
        print_json(models)
    elif models:
        print_table(_COLUMNS, [_row(m) for m in models], spare=_SPARE)
    elif kind or family or tag or text or digest:
        print("No installed model is so.", file=sys.stderr)
    else:
        print("Nothing is installed yet. Try: modelshelf starter install", file=sys.stderr)


@app.command()
def show(model: Reference, as_json: Json = False) -> None:
    """Show one model: digests, source, what its provider recommends, and why it was classified so.

    Example: `modelshelf show starter-lcm-lora`
    """
    with opened_shelf() as shelf:
        found = shelf.model(model)
        path = shelf.locate(found.path)
    if as_json:
        print_json(found)
    else:
        print_table((), [(name, str(value)) for name, value in _facts(found, path) if value not in (None, [], "")])


_SHOWN = (
    *("id", "name", "kind", "family", "variant", "prediction_type", "format", "blake3", "sha256", "autov3"),
    *("source", "repo_id", "revision", "base_model", "triggers", "tags", "managed"),
    *("created_at", "hashed_at", "missing_since", "damaged_at"),
)


def _facts(model: ModelDetail, path: str) -> list[tuple[str, Any]]:
    return [
        *((name, _worded(getattr(model, name))) for name in _SHOWN),
        ("may be for", ", ".join(choice["family"] for choice in model.report.get("choices", ())[1:])),
        ("weight", model.weight and f"{model.weight.value:g} ({model.weight.origin}: {model.weight.by})"),
        ("size", f"{size_text(model.size)} ({model.size:,} bytes)"),
        ("path", path),
        *(
            (f"{d.algorithm} claimed by {d.by}", d.value + (" (not what the bytes have)" if d.contradicted else ""))
            for d in model.digests
            if d.by
        ),
        *((f"also from {n}", source.url) for n, source in enumerate(model.sources[1:], 1)),
        *((f"your {name}", _worded(value)) for name, value in model.overrides.items()),
        *((f"{name} ({fact['by']})", fact["value"]) for name, fact in model.facts.items()),
        *((f"recommended {k}", f"{v['value']} ({v['by']}: “{v['quote']}”)") for k, v in model.recipe.items()),
        *((f"borrows of {b.name}", ", ".join(b.components)) for b in model.borrowed),
        ("why", model.report["reason"]),
    ]


def _worded(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:%Y-%m-%d %H:%M} UTC" if isinstance(value, datetime) else value


@app.command()
def compatible(
    model: Reference,
    all_: Annotated[bool, typer.Option("--all", help="Also those that do not fit, and why not.")] = False,
    as_json: Json = False,
) -> None:
    """List the LoRAs that fit a checkpoint, or the checkpoints that a LoRA fits, each with the reason.

    Example: `modelshelf compatible starter-base --all`
    """
    with opened_shelf() as shelf:
        is_checkpoint = (found := shelf.model(model)).kind == "checkpoint"
        ask = shelf.compatible_loras if is_checkpoint else shelf.compatible_checkpoints
        verdicts = list(ask(found.id, every=all_))
    if as_json:
        print_json(verdicts)
    elif verdicts:
        print_table(
            ("id", "name", "kind", "fits", "reason"),
            [(v.model.id, v.model.name, v.model.kind, _YES_NO[v.verdict], v.reason) for v in verdicts],
        )
    else:
        none = "No installed LoRA fits it." if is_checkpoint else "It fits no installed checkpoint."
        print(f"{none} `modelshelf compatible --all` says why not.", file=sys.stderr)


@app.command("set")
def set_overrides(
    model: Reference,
    name: Annotated[str | None, typer.Option(help="A new name; the file keeps its own.")] = None,
    weight: Annotated[float | None, typer.Option(help="Weight of a LoRA when none is asked for.")] = None,
    steps: Steps = None,
    cfg: Cfg = None,
    scheduler: SchedulerName = None,
    trigger: Annotated[
        list[str] | None, typer.Option(help="In place of the provider's triggers; may be repeated.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Beside those that the probe gives; may be repeated.")] = None,
    notes: Annotated[str | None, typer.Option(help="For your own memory.")] = None,
    family: Family = None,
    kind: Kind = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Forget your settings for it first; what you said that it is stays.")
    ] = False,
) -> None:
    """Keep your own settings for a model; they beat its provider's recommendation.

    --family and --kind correct what it was taken for, where its layers are those of several; what fits it follows.

    Example: `modelshelf set starter-outline-lora --weight 0.6 --tag drawing`
    """
    given: dict[str, Any] = {"weight": weight, "steps": steps, "cfg": cfg, "scheduler": scheduler}
    given |= {"triggers": trigger, "tags": tag, "notes": notes}
    wanted = {k: v for k, v in (given | {"name": name, "family": family, "kind": kind}).items() if v is not None}
    with opened_shelf() as shelf:
        changed = shelf.edit(model, **(dict.fromkeys(given) if reset else {}) | wanted)
    own = ", ".join(f"{k} {_worded(v)}" for k, v in changed.overrides.items() if v is not None)
    say(f"{changed.name}: {own or 'no settings of your own'}")


@app.command()
def delete(
    model: References,
    keep_file: Annotated[bool, typer.Option("--keep-file", help="Forget the models only; their files stay.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
) -> None:
    """Remove models from the shelf, and their files with them. What was scanned in place is only forgotten.

    Example: `modelshelf delete starter-heart --yes`
    """
    with opened_shelf() as shelf:
        found = [shelf.model(reference) for reference in model]  # all of them, before the first is gone
        rows = [(m.name, m.kind, size_text(m.size), shelf.locate(m.path), _fate(m, keep_file)) for m in found]
        if not yes:
            print_table(("name", "kind", "size", "path", ""), rows)
            if not sys.stdin.isatty():
                raise InvalidRequest("Nothing was removed: say --yes where nobody can be asked.")
            typer.confirm("Go on?", abort=True)
        for each in found:
            shelf.delete(each.id, files=_goes(each, keep_file))
            say(f"{each.id}  {each.name}  {_fate(each, keep_file)}")


def _goes(model: Model, keep_file: bool) -> bool:
    return model.managed and not keep_file


def _fate(model: Model, keep_file: bool) -> str:
    return "file removed" if _goes(model, keep_file) else "file stays"


def _row(model: Model) -> tuple[str, ...]:
    return (
        model.id,
        model.name,
        model.kind,
        model.family,
        model.format,
        size_text(model.size),
        f"{model.weight.value:g}" if model.weight else "",
        ", ".join(model.triggers),
    )
