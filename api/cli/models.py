"""`modelshelf list`, `show`, `compatible` and `set`: what is installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.common import Json, Reference, opened_manager
from api.cli.output import model_dict, print_json, print_table, size_text

if TYPE_CHECKING:
    from registry.tables import Model

app = typer.Typer()


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
    with opened_manager() as manager:
        models = manager.catalog.list(kind=kind, family=family, text=text, limit=10_000)
    if as_json:
        print_json([model_dict(m) for m in models])
    elif models:
        print_table(("id", "name", "kind", "family", "format", "size", "weight", "triggers"), [_row(m) for m in models])
    elif kind or family or text:
        print("No installed model is so.", file=sys.stderr)
    else:
        print("Nothing is installed yet. Try: modelshelf starter install", file=sys.stderr)


@app.command()
def show(model: Reference, as_json: Json = False) -> None:
    """Show one model: digests, source, what its provider recommends, and why it was classified so."""
    with opened_manager() as manager:
        found = manager.catalog.get(model)
        path = manager.catalog.path(found)
    if as_json:
        print_json(model_dict(found) | {"files": found.files, "report": found.report})
        return
    facts = {
        k: v
        for k, v in model_dict(found).items()
        if v not in (None, [], {}) and k not in {"recipe", "path", "overrides"}
    }
    facts["path"] = path
    facts |= {f"your {k}": v for k, v in found.overrides.items()}
    facts |= {f"recommended {k}": f"{v['value']} ({v['by']}: “{v['quote']}”)" for k, v in found.recipe.items()}
    facts["why"] = found.report["reason"]
    print_table((), [(name, str(value)) for name, value in facts.items()])


@app.command()
def compatible(
    checkpoint: Reference,
    all_: Annotated[bool, typer.Option("--all", help="Also those that do not fit, and why not.")] = False,
    as_json: Json = False,
) -> None:
    """List the LoRAs that fit a checkpoint, each with the reason."""
    with opened_manager() as manager:
        verdicts = [(m, fit) for m, fit in manager.compatible_loras(checkpoint) if fit.fits or all_]
    if as_json:
        print_json([model_dict(m) | {"fits": fit.fits, "reason": fit.reason} for m, fit in verdicts])
    elif verdicts:
        print_table(
            ("id", "name", "kind", "fits", "reason"),
            [(m.id, m.name, m.kind, "yes" if f.fits else "no", f.reason) for m, f in verdicts],
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
