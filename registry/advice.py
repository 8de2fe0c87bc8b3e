"""What a user should be told about a plan, and would not see in its values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from registry.accelerations import Accelerated
from registry.models import Model
from registry.plans import Borrowed, ConfigFacts, GenerationRequest, Origin, PlannedAdapter, Sourced

UNTOLD_PREDICTION = ("sd-2",)
"""Families whose checkpoints of both kinds have the same tensors, so that a file that says nothing may be either."""

NO_NEGATIVE = ("flux-1",)
"""Families whose guidance is an input of the network: there is no pass that a negative prompt could go through."""

_OWN_WORDS = (Origin.REQUESTED, Origin.USER)


def loans(checkpoint: Model, borrowed: Sequence[Borrowed]) -> tuple[str, ...]:
    return tuple(
        f"{checkpoint.name} has no {', '.join(b.components)} of its own: those of {b.name} are used." for b in borrowed
    )


def notes(prompt: str, adapters: Sequence[PlannedAdapter]) -> tuple[str, ...]:
    """What a user would want to be told, and would not see in the values."""
    words = prompt.lower()
    return tuple(
        f"{a.name} was trained on “{a.triggers[0]}”, which the prompt does not contain."
        for a in adapters
        if a.triggers and a.weight.value and not any(t.lower() in words for t in a.triggers)
    )


def contradictions(
    teacher: Model, fast: Accelerated | None, scheduler: Sourced[str], steps: Sourced[int], cfg: Sourced[float]
) -> tuple[str, ...]:
    """What the user says against a recipe is obeyed; this tells what it costs."""
    if fast is None:
        return ()
    recipe = fast.recipe
    said: list[tuple[Sourced[Any], str, str]] = []
    if scheduler.value not in recipe.schedulers:
        said.append((scheduler, f"scheduler {scheduler.value}", f"it was made for {' or '.join(recipe.schedulers)}"))
    low, high = (fast.steps, fast.steps) if fast.steps else recipe.steps_range
    if not low <= steps.value <= high:
        said.append((steps, f"{steps.value} steps", f"it was made for {_range(low, high)} steps"))
    lowest, highest = recipe.cfg_range
    if not lowest <= cfg.value <= highest:
        said.append(
            (
                cfg,
                f"CFG {cfg.value:g}",
                f"it was made for {_range(lowest, highest)}; colours burn above, prompts fade below",
            )
        )
    return tuple(
        f"{what} with {teacher.name}: {why} ({recipe.by})." for value, what, why in said if value.origin in _OWN_WORDS
    )


def overruled(request: GenerationRequest, checkpoint: Model, teacher: Model) -> tuple[str, ...]:
    """The user's own settings for a checkpoint that an acceleration does away with."""
    names = [name for name in ("scheduler", "steps", "cfg") if getattr(request, name) is None]
    lost = [f"{name} {checkpoint.overrides[name]}" for name in names if checkpoint.overrides.get(name) is not None]
    if teacher is checkpoint or not lost:
        return ()
    return (f"Your {', '.join(lost)} for {checkpoint.name} do not count here: {teacher.name} changes how to sample.",)


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def rivals(fast: Sequence[Model]) -> tuple[str, ...]:
    names = [model.name for model in fast]
    return (
        (
            f"{', '.join(names[:-1])} and {names[-1]} are accelerations, each with a sampler of its own; {names[0]}'s is used.",
        )
        if len(names) > 1
        else ()
    )


def useless_negative(
    request: GenerationRequest, cfg: float, fast: Accelerated | None, checkpoint: Model
) -> tuple[str, ...]:
    if request.negative_prompt and checkpoint.family in NO_NEGATIVE:
        return (f"The negative prompt has no effect: {checkpoint.family} is guided without one.",)
    embedded = fast is not None and fast.recipe.trait == "lcm" and checkpoint.kind in fast.recipe.kinds
    return (
        (f"The negative prompt has no effect: at CFG {cfg:g} there is no guidance.",)
        if request.negative_prompt and cfg <= 1 and not embedded
        else ()
    )


def unknown_scheduler(scheduler: Sourced[str], config: ConfigFacts) -> tuple[str, ...]:
    if config.scheduler is not None or scheduler.origin in _OWN_WORDS:
        return ()
    return (
        f"{config.origin} came with the scheduler {config.scheduler_class}, which is not known here; {scheduler.value} is used.",
    )


def untold_prediction(prediction: Sourced[str] | None, checkpoint: Model) -> tuple[str, ...]:
    if prediction is not None or checkpoint.family not in UNTOLD_PREDICTION:
        return ()
    return (
        f"{checkpoint.name} does not say whether it predicts noise (epsilon) or v; epsilon is taken. If the picture is "
        "brown noise, ask with prediction_type v_prediction.",
    )
