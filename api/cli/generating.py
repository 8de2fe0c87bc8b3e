"""`modelshelf generate`."""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.common import Cfg, Json, Reference, SchedulerName, Steps
from api.cli.opening import opened_shelf
from api.cli.output import print_json, print_table, say, steps_bar
from registry.errors import InvalidRequest, NotSaved

if TYPE_CHECKING:
    from api.records import Plan
    from registry.plans import AdapterRequest

app = typer.Typer()


@app.command()
def generate(
    checkpoint: Reference,
    prompt: Annotated[str, typer.Argument(help="What to draw.", show_default=False)],
    lora: Annotated[
        list[str] | None, typer.Option(help="NAME, NAME:WEIGHT or NAME:TEXT-ENCODER-WEIGHT:WEIGHT; may be repeated.")
    ] = None,
    negative: Annotated[str, typer.Option(help="What not to draw.")] = "",
    steps: Steps = None,
    cfg: Cfg = None,
    scheduler: SchedulerName = None,
    seed: Annotated[int | None, typer.Option(help="Of the first picture; the others count up from it.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels; else as the checkpoint was trained.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels, likewise.")] = None,
    n: Annotated[int, typer.Option("-n", help="Number of pictures.")] = 1,
    image: Annotated[Path | None, typer.Option(help="A picture to start from (image-to-image).")] = None,
    strength: Annotated[float | None, typer.Option(help="How much of it changes, 0 to 1.")] = None,
    prediction_type: Annotated[
        str | None, typer.Option(help="epsilon or v_prediction, where the checkpoint does not tell.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures.")] = Path(),
    as_json: Json = False,
) -> None:
    """Make pictures, save them, and print what made them. What is left out is decided by the recipes.

    Ctrl-C stops within a step, and while the model loads at once.

    Example: `modelshelf generate starter-base "a red circle" --lora starter-lcm-lora --lora starter-heart:0.7 --seed 4 -n 2 -o out`
    """
    from registry.plans import GenerationRequest

    request = GenerationRequest(
        checkpoint,
        prompt,
        negative,
        loras=tuple(_adapter(text) for text in lora or ()),
        steps=steps,
        cfg=cfg,
        scheduler=scheduler,
        seed=seed,
        width=width,
        height=height,
        n=n,
        image=image.read_bytes() if image else None,
        strength=strength,
        prediction_type=prediction_type,
    )
    _prepare(output)
    with opened_shelf() as shelf:
        with steps_bar() as follow:
            made = shelf.generate(request, follow)
        try:
            paths = [_save(output / f"{made.plan.checkpoint_name}-{each.seed}.png", each.png) for each in made.images]
        except OSError as error:
            raise NotSaved(
                f"Not every picture could be saved in {output.absolute()}: {error.strerror}. {shelf.made_again(made)}",
                generation=made.id,
            ) from error
    for warning in made.warnings:
        say(f"Warning: {warning}", sys.stderr)
    if as_json:
        print_json(
            {"files": list(map(str, paths)), "plan": made.plan, "warnings": made.warnings, "timings": made.timings}
        )
        return
    _show_plan(made.plan)
    for path in paths:
        print(path)
    print(f"{made.timings['total']:.2f} s", file=sys.stderr)


def _prepare(folder: Path) -> None:
    """Make it, and see that it can be written to, before minutes are spent on what could not be saved. Raises InvalidRequest."""
    try:
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InvalidRequest(
            f"--output: no picture can be saved in {folder.absolute()}: {error.strerror}. Nothing was generated."
        ) from error


def _save(path: Path, png: bytes) -> Path:
    """Whole, or not at all."""
    path = _free(path)
    try:
        path.write_bytes(png)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def _free(path: Path) -> Path:
    """`path`, or with a number when there is one already: nothing that somebody made is overwritten."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(p for p in chain([path], numbered) if not p.exists())


def _show_plan(plan: Plan) -> None:
    values = [(f"weight of {a.name}", a.weight) for a in plan.loras]
    names = ("scheduler", "steps", "cfg", "seed", "width", "height", "strength", "prediction_type")
    values += [(name, value) for name in names if (value := getattr(plan, name)) is not None]
    print_table(
        ("", "value", "origin", "by"),
        [(name, f"{v.value:g}" if isinstance(v.value, float) else str(v.value), v.origin, v.by) for name, v in values],
    )
    for note in plan.notes:
        say(f"Note: {note}")


def _adapter(text: str) -> AdapterRequest:
    """NAME, NAME:WEIGHT or NAME:TEXT:WEIGHT; a colon that no number follows belongs to the name."""
    from registry.plans import AdapterRequest

    name, weights = text, list[float]()
    while len(weights) < 2 and (number := _number_after_colon(name)):
        name, weight = number
        weights.insert(0, weight)
    return AdapterRequest(name, weights[-1] if weights else None, weights[0] if len(weights) == 2 else None)


def _number_after_colon(text: str) -> tuple[str, float] | None:
    name, colon, number = text.rpartition(":")
    try:
        return (name, float(number)) if colon else None
    except ValueError:
        return None
