"""From a request to a Plan: every value that will be used, and where it came from.

Precedence, one rule for all values: requested > the user's own setting > recommended by the provider > default. Steps, CFG and scheduler
are one model's to say: the acceleration's that is worn, else the checkpoint's; what the checkpoint's user had set is then told. The
defaults are those of InvokeAI's guide "LoRAs & LCM-LoRAs"; diffusers' documentation uses LCM-LoRA at 1.0 instead, which is
why a provider's word beats the default.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probes import Kind
from registry import advice
from registry.accelerations import GUIDE, Accelerated, acceleration
from registry.backends.schedulers import canonical
from registry.errors import InvalidRequest
from registry.models import Model
from registry.plans import (
    DEFAULT_LIMITS,
    Borrowed,
    ConfigFacts,
    GenerationRequest,
    Limits,
    Origin,
    Plan,
    PlannedAdapter,
    Sourced,
)

# https://invoke-ai.github.io/InvokeAI/features/LORAS/ : most LoRAs perform best at 0.75 to 1; beside an LCM-LoRA start at 0.45.
LORA_WEIGHT, LORA_BESIDE_LCM_WEIGHT = 0.75, 0.45
# The values that the families' own model cards use; those of a variant (as the probe names it) where it has others.
FAMILY_SAMPLER: dict[str, dict[str, Any]] = {
    "sd-1": {"scheduler": "pndm", "steps": 25, "cfg": 7.5},
    "sd-2": {"scheduler": "ddim", "steps": 25, "cfg": 7.5},
    "sdxl": {"scheduler": "euler", "steps": 25, "cfg": 5.0},
    "sd-3": {"scheduler": "euler", "steps": 28, "cfg": 7.0},
    "flux-1": {"scheduler": "euler", "steps": 28, "cfg": 3.5},
    "flux-1 schnell": {"scheduler": "euler", "steps": 4, "cfg": 0.0},
}
SAMPLING = ("steps", "cfg", "scheduler")
"""What a LoRA does not say, unless it is an acceleration."""
ANY_SAMPLER: dict[str, Any] = {"scheduler": "euler", "steps": 25, "cfg": 7.0}
STRENGTH = 0.75
"""Of image-to-image when nobody says: three quarters of the steps run, which keeps the layout and changes the rest."""
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
MAX_ABS_WEIGHT = 4.0  # beyond it every known LoRA only makes noise: surely a typing error
_RANGES = {"steps": (1, 150), "cfg": (0.0, 30.0), "strength": (0.0, 1.0)}


@dataclass(frozen=True, slots=True)
class StartPicture:
    """The picture that image-to-image starts from. `size`: width, height in pixels."""

    sha256: str
    size: tuple[int, int]


def make_plan(
    request: GenerationRequest,
    checkpoint: Model,
    adapters: Sequence[tuple[Model, float | None]],
    *,
    config: ConfigFacts,
    start: StartPicture | None = None,
    text_weights: Mapping[str, float] | None = None,
    borrowed: tuple[Borrowed, ...] = (),
    limits: Limits = DEFAULT_LIMITS,
    random_seed: Callable[[], int] = lambda: secrets.randbelow(2**32),
) -> Plan:
    """Raises InvalidRequest for values out of range, or an adapter named twice.

    `text_weights`: adapter's id -> what is asked for the text encoders.
    """
    text_weights = text_weights or {}
    _check(request, adapters, text_weights, limits)
    # Whether it is worn at all, its user's setting tells as well as the request: neither hangs on what else is worn.
    worn = [model for model, weight in adapters if adapter_weight(model, weight).value]
    found = [(model, fast) for model in worn if (fast := acceleration(model))]
    beside_lcm = any(fast.recipe.trait == "lcm" for _, fast in found)
    planned = tuple(
        _plan_adapter(model, weight, beside_lcm=beside_lcm, text_weight=text_weights.get(model.id))
        for model, weight in adapters
    )

    # An acceleration changes how to sample, so a LoRA's word comes before the checkpoint's.
    if not found and (fast := acceleration(checkpoint)):
        found = [(checkpoint, fast)]
    teacher, fast = found[0] if found else (checkpoint, None)
    sampler = _Sampler(request, checkpoint.family, checkpoint.variant, teacher, fast, config)
    scheduler, steps, cfg = sampler.value("scheduler"), sampler.value("steps"), sampler.value("cfg")
    prediction = _prediction_type(request, checkpoint)
    strength = _strength(request, start)
    width, height = _size(request, config, start)
    # What is asked for, and as well what a stranger's configuration or card made of what is not.
    resolved = {"steps": steps, "cfg": cfg, "strength": strength, "width": width, "height": height}
    side = (8, limits.side)
    values = {name: sourced.value for name, sourced in resolved.items() if sourced is not None}
    _check_ranges(values, {**_RANGES, "width": side, "height": side})
    return Plan(
        checkpoint=checkpoint.id,
        checkpoint_name=checkpoint.name,
        family=checkpoint.family,
        adapters=planned,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        scheduler=scheduler,
        steps=steps,
        cfg=cfg,
        seed=_asked_or(request.seed, random_seed, "drawn at random"),
        width=width,
        height=height,
        n=request.n,
        notes=(*advice.notes(request.prompt, planned), *advice.loans(checkpoint, borrowed)),
        warnings=(
            *advice.contradictions(teacher, fast, scheduler, steps, cfg),
            *advice.overruled(request, checkpoint, teacher),
            *advice.rivals([model for model, _ in found]),
            *advice.useless_negative(request, cfg.value, fast, checkpoint),
            *advice.unknown_scheduler(scheduler, config),
            *advice.untold_prediction(prediction, checkpoint),
        ),
        eta=fast.recipe.eta if fast and scheduler.value in fast.recipe.schedulers else None,
        strength=strength,
        image=start.sha256 if start else None,
        prediction_type=prediction,
        borrowed=borrowed,
    )


@dataclass(frozen=True, slots=True)
class _Sampler:
    """Scheduler, steps and CFG: requested > the user's own > the file's name > the provider's > the acceleration's authors' > the
    checkpoint's configuration > the family's."""

    request: GenerationRequest
    family: str
    variant: str | None
    teacher: Model
    fast: Accelerated | None
    config: ConfigFacts

    def value(self, name: str) -> Sourced[Any]:
        requested = getattr(self.request, name)
        fast, teacher = self.fast, self.teacher
        if fast:
            recipe = fast.recipe
            by, origin = (recipe.by, Origin.DEFAULT if recipe.by.startswith(GUIDE) else Origin.RECOMMENDED)
            if name == "steps" and fast.steps and requested is None and name not in teacher.overrides:
                return Sourced(fast.steps, Origin.RECOMMENDED, f"the file's name: {fast.file}")
            default = {"scheduler": recipe.schedulers[0], "steps": recipe.steps, "cfg": recipe.cfg}[name]
            return _choose(name, requested, teacher, default, by, origin)
        if name == "scheduler" and self.config.scheduler:
            by = f"scheduler_config.json of {self.config.origin}"
            return _choose(name, requested, teacher, self.config.scheduler, by, Origin.RECOMMENDED)
        usual = f"{self.family} {self.variant}" if f"{self.family} {self.variant}" in FAMILY_SAMPLER else self.family
        default = FAMILY_SAMPLER.get(usual, ANY_SAMPLER)[name]
        return _choose(name, requested, teacher, default, f"usual for {usual}")


def adapter_weight(model: Model, requested: float | None = None, *, beside_lcm: bool = False) -> Sourced[float]:
    """The weight that a LoRA gets."""
    origin = Origin.DEFAULT
    if fast := acceleration(model):
        default, by = fast.recipe.weight, fast.recipe.by
        origin = Origin.DEFAULT if by.startswith(GUIDE) else Origin.RECOMMENDED
    elif beside_lcm:
        default, by = LORA_BESIDE_LCM_WEIGHT, f"{GUIDE}: LoRA beside an LCM-LoRA"
    else:
        default, by = LORA_WEIGHT, f"{GUIDE}: LoRA"
    return _choose("weight", requested, model, default, by, origin)


def weight_range(model: Model) -> Sourced[tuple[float, float]] | None:
    """Between which weights a LoRA works, (min, max), if somebody says so."""
    low, high = model.overrides.get("weight_min"), model.overrides.get("weight_max")
    if low is not None and high is not None:
        return Sourced((low, high), Origin.USER, f"your setting for {model.name}")
    stated = model.stated("weight")
    if stated is None or stated.minimum is None or stated.maximum is None:
        return None
    return Sourced((stated.minimum, stated.maximum), Origin.RECOMMENDED, f"{stated.by} of {model.name}")


def _plan_adapter(
    model: Model, weight: float | None, *, beside_lcm: bool, text_weight: float | None = None
) -> PlannedAdapter:
    chosen = adapter_weight(model, weight, beside_lcm=beside_lcm)
    text = None if text_weight is None else Sourced(text_weight, Origin.REQUESTED, "request")
    return PlannedAdapter(model.id, model.name, model.kind, chosen, tuple(model.triggers), text)


def _choose(
    name: str, requested: Any, model: Model, default: Any, by: str, origin: Origin = Origin.DEFAULT
) -> Sourced[Any]:
    if requested is not None:
        return Sourced(requested, Origin.REQUESTED, "request")
    if (own := model.overrides.get(name)) is not None:
        return Sourced(own, Origin.USER, f"your setting for {model.name}")
    if stated := model.stated(name):
        quote = f": “{stated.quote}”" if stated.quote else ""
        return Sourced(stated.value, Origin.RECOMMENDED, f"{stated.by} of {model.name}{quote}")
    return Sourced(default, origin, by)


def _prediction_type(request: GenerationRequest, checkpoint: Model) -> Sourced[str] | None:
    if request.prediction_type is not None:
        return Sourced(request.prediction_type, Origin.REQUESTED, "request")
    if checkpoint.prediction_type in PREDICTION_TYPES:
        return Sourced(checkpoint.prediction_type, Origin.RECOMMENDED, f"the files of {checkpoint.name}")
    return None


def _strength(request: GenerationRequest, start: StartPicture | None) -> Sourced[float] | None:
    if start is None:
        return None
    if request.strength is not None:
        return Sourced(request.strength, Origin.REQUESTED, "request")
    return Sourced(STRENGTH, Origin.DEFAULT, "usual for image-to-image")


def _size(
    request: GenerationRequest, config: ConfigFacts, start: StartPicture | None
) -> tuple[Sourced[int], Sourced[int]]:
    """What is asked for; else the start picture's shape, made smaller where its area is over the native one; else the native size."""
    (width, height), by = config.native_size, f"native size of {config.origin}"
    if start:
        shrink = min(1.0, (width * height / (start.size[0] * start.size[1])) ** 0.5)
        width, height = (max(config.unit, round(side * shrink / config.unit) * config.unit) for side in start.size)
        by = "shape of the start picture, at most the native area"
    return _asked_or(request.width, lambda: width, by), _asked_or(request.height, lambda: height, by)


def _asked_or(requested: int | None, otherwise: Callable[[], int], by: str) -> Sourced[int]:
    return (
        Sourced(otherwise(), Origin.DEFAULT, by)
        if requested is None
        else Sourced(requested, Origin.REQUESTED, "request")
    )


def check_overrides(model: Model, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The user's own settings for a model, or InvalidRequest."""
    idle = [name for name in SAMPLING if settings.get(name) is not None]
    if idle and model.kind != Kind.CHECKPOINT and acceleration(model) is None:
        raise InvalidRequest(
            f"{model.name} is an ordinary {model.kind}: {', '.join(idle)} would never be used. Set them for the checkpoint.",
            field=idle[0],
        )
    _check_ranges(settings, _RANGES)
    for name in ("weight", "weight_min", "weight_max"):
        if (weight := settings.get(name)) is not None:
            _check_weight(f"The {name.replace('_', ' ')}", weight)
    low, high = settings.get("weight_min"), settings.get("weight_max")
    if (low is None) != (high is None) or (low is not None and high is not None and low >= high):
        raise InvalidRequest("weight_min and weight_max go together, the lower one first.", field="weight_min")
    checked = dict(settings)
    if settings.get("scheduler") is not None:
        checked["scheduler"] = canonical(settings["scheduler"])
    return checked


def _check_ranges(values: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]]) -> None:
    for name, (low, high) in ranges.items():
        value = values.get(name)
        if value is not None and not low <= value <= high:
            raise InvalidRequest(f"{name} is {value}; it must be between {low} and {high}.", field=name)


def _check_weight(whose: str, weight: float) -> None:
    if not abs(weight) <= MAX_ABS_WEIGHT:
        raise InvalidRequest(
            f"{whose} is {weight}; it must be between {-MAX_ABS_WEIGHT} and {MAX_ABS_WEIGHT}.", field="weight"
        )


def _check(
    request: GenerationRequest,
    adapters: Sequence[tuple[Model, float | None]],
    text_weights: Mapping[str, float],
    limits: Limits,
) -> None:
    _check_ranges({"n": request.n}, {"n": (1, limits.pictures)})
    for name in ("prompt", "negative_prompt"):
        if (length := len(getattr(request, name))) > limits.prompt:
            raise InvalidRequest(f"{name} has {length} characters; it may have {limits.prompt}.", field=name)
    if request.strength is not None and request.image is None:
        raise InvalidRequest("strength is of image-to-image; there is no image.", field="strength")
    if request.prediction_type not in (None, *PREDICTION_TYPES):
        raise InvalidRequest(
            f"prediction_type is {request.prediction_type!r}; there are {', '.join(PREDICTION_TYPES)}.",
            field="prediction_type",
        )
    seen: dict[str, Model] = {}
    for model, weight in adapters:
        if other := seen.get(model.blake3 or model.id):
            twice = "named twice" if other.id == model.id else f"the same file as {other.name}"
            raise InvalidRequest(f"{model.name} is {twice}; name each LoRA once, with one weight.", field="loras")
        seen[model.blake3 or model.id] = model
        for asked in (weight, text_weights.get(model.id)):
            if asked is not None:
                _check_weight(f"The weight of {model.name}", asked)
