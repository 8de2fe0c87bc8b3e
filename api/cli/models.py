"""`modelshelf list`, `show`, `compatible` and `set`: what is installed."""

from __future__ import annotations

import sys
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.common import Json, Reference, opened_manager
from api.cli.output import print_json, print_table, size_text

if TYPE_CHECKING:
    from registry.models import Model

app = typer.Typer()

_YES_NO = {"fits": "yes", "partly": "partly", "no": "no"}


@app.command("list")
def list_models(
    kind: Annotated[str | None, typer.Option(help="checkpoint, lora or lcm_lora.")] = None,
    family: Annotated[str | None, typer.Option(help="Base-model family, such as sd-1 or sdxl.")] = None,
    tag: Annotated[str | None, typer.Option(help="As a probe, a card or a sidecar gave it.")] = None,
    text: Annotated[
        str | None, typer.Option("--search", help="Words looked for in names, repositories, triggers, tags, titles.")
    ] = None,
    digest: Annotated[str | None, typer.Option(help="Of any kind, or its first 6 digits or more.")] = None,
    sort: Annotated[str, typer.Option(help="name, created or size; with - in front from the end.")] = "name",
    limit: Annotated[int | None, typer.Option(help="At most so many.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """List the installed models."""
    from registry.queries import MAX_LIMIT, Query

    query = Query(kind, family, tag, text, digest, sort=sort, limit=min(limit or MAX_LIMIT, MAX_LIMIT))
    with opened_manager() as manager:
        models = list(islice(manager.catalog.every(query), limit))
    if as_json:
        print_json([m.as_dict() for m in models])
    elif models:
        print_table(("id", "name", "kind", "family", "format", "size", "weight", "triggers"), [_row(m) for m in models])
    elif kind or family or tag or text or digest:
        print("No installed model is so.", file=sys.stderr)
    else:
        print("Nothing is installed yet. Try: modelshelf starter install", file=sys.stderr)


@app.command()
def show(model: Reference, as_json: Json = False) -> None:
    """Show one model: digests, source, what its provider recommends, and why it was classified so."""
    with opened_manager() as manager:
        found = manager.catalog.get(model)
        path, files, report = manager.catalog.path(found), manager.catalog.files(found), manager.catalog.report(found)
    if as_json:
        print_json(found.as_dict() | {"files": [asdict(f) for f in files], "report": report})
        return
    apart = {"recipe", "facts", "path", "overrides", "digests", "sources"}
    facts = {k: v for k, v in found.as_dict().items() if v not in (None, [], {}) and k not in apart}
    facts["path"] = path
    facts |= {
        f"{d.algorithm} claimed by {d.by}": d.value + (" (not what the bytes have)" if found.contradicts(d) else "")
        for d in found.claims
    }
    facts |= {f"also from {n}": source.url for n, source in enumerate(found.sources[1:], 1)}
    facts |= {f"your {k}": v for k, v in found.overrides.items()}
    facts |= {f"{k} ({v['by']})": v["value"] for k, v in found.facts.items()}
    facts |= {f"recommended {k}": f"{v['value']} ({v['by']}: “{v['quote']}”)" for k, v in found.recipe.items()}
    facts["why"] = report["reason"]
    print_table((), [(name, str(value)) for name, value in facts.items()])


@app.command()
def compatible(
    checkpoint: Reference,
    all_: Annotated[bool, typer.Option("--all", help="Also those that do not fit, and why not.")] = False,
    as_json: Json = False,
) -> None:
    """List the LoRAs that fit a checkpoint, each with the reason."""
    from registry.fits import verdict_of

    with opened_manager() as manager:
        manager.fits.catch_up()
        verdicts = list(manager.every_compatible_lora(checkpoint, every=all_))
    if as_json:
        print_json(
            [m.as_dict() | {"fits": fit.fits, "verdict": verdict_of(fit), "reason": fit.reason} for m, fit in verdicts]
        )
    elif verdicts:
        print_table(
            ("id", "name", "kind", "fits", "reason"),
            [(m.id, m.name, m.kind, _YES_NO[verdict_of(f)], f.reason) for m, f in verdicts],
        )
    else:
        print("No installed LoRA fits it. `modelshelf compatible --all` says why not.", file=sys.stderr)


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
    with opened_manager() as manager:
        changed = manager.catalog.override(model, (dict.fromkeys(given) if reset else {}) | wanted)
    print(f"{changed.name}: {', '.join(f'{k} {v}' for k, v in changed.overrides.items()) or 'no settings of your own'}")


def _row(model: Model) -> tuple[str, ...]:
    from registry.recipes import adapter_weight

    weight = "" if model.kind == "checkpoint" else f"{adapter_weight(model).value:g}"
    return (
        model.id,
        model.name,
        model.kind,
        model.family,
        model.format,
        size_text(model.size),
        weight,
        ", ".join(model.triggers),
    )
