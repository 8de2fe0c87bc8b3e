"""From a request to a Plan: every value that will be used, and where it came from.

Precedence, one rule for all values: requested > the user's own setting > recommended by the provider > default. The
defaults are those of InvokeAI's guide "LoRAs & LCM-LoRAs"; diffusers' documentation uses LCM-LoRA at 1.0 instead, which is
why a provider's word beats the default.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from probes import Kind
from registry.backends.schedulers import canonical
from registry.errors import InvalidRequest
from registry.models import Model

T = TypeVar("T")

# https://invoke-ai.github.io/InvokeAI/features/LORAS/ : most LoRAs perform best at 0.75 to 1; beside an LCM-LoRA start at 0.45; the
# LCM-LoRA itself at 0.35, with the LCM scheduler, CFG about 1 and 4 to 8 steps.
GUIDE = "LoRA guide"
LORA_WEIGHT, LORA_BESIDE_LCM_WEIGHT, LCM_WEIGHT = 0.75, 0.45, 0.35
LCM_SAMPLER: dict[str, Any] = {"scheduler": "lcm", "steps": 4, "cfg": 1.0}
# The values that the families' own model cards use.
FAMILY_SAMPLER: dict[str, dict[str, Any]] = {
    "sd-1": {"scheduler": "pndm", "steps": 25, "cfg": 7.5},
    "sd-2": {"scheduler": "ddim", "steps": 25, "cfg": 7.5},
    "sdxl": {"scheduler": "euler", "steps": 25, "cfg": 5.0},
}
ANY_SAMPLER: dict[str, Any] = {"scheduler": "euler", "steps": 25, "cfg": 7.0}
MAX_ABS_WEIGHT = 4.0  # beyond it every known LoRA only makes noise: surely a typing error
MAX_SIDE = 4096  # pixels: sixty times the area that sd-1 was trained on; beyond it a request only exhausts memory
LIMITS = {"steps": (1, 150), "cfg": (0.0, 30.0), "n": (1, 16), "width": (8, MAX_SIDE), "height": (8, MAX_SIDE)}


class Origin(StrEnum):
    REQUESTED = "requested"
    USER = "user"
    RECOMMENDED = "recommended"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Sourced(Generic[T]):
    """A value and its provenance: `by` names who said so, in words for people."""

    value: T
    origin: Origin
    by: str


@dataclass(frozen=True, slots=True)
class AdapterRequest:
    model: str  # id or name
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a user asks for; None means: decide for me, and tell me."""

    checkpoint: str
    prompt: str
    negative_prompt: str = ""
    loras: tuple[AdapterRequest, ...] = ()
    steps: int | None = None
    cfg: float | None = None
    scheduler: str | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    n: int = 1


@dataclass(frozen=True, slots=True)
class PlannedAdapter:
    id: str
    name: str
    kind: str
    weight: Sourced[float]
    triggers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What will really run. Sizes in pixels; `seed` is the first picture's, the others count up from it."""

    checkpoint: str
    checkpoint_name: str
    family: str
    adapters: tuple[PlannedAdapter, ...]
    prompt: str
    negative_prompt: str
    scheduler: Sourced[str]
    steps: Sourced[int]
    cfg: Sourced[float]
    seed: Sourced[int]
    width: Sourced[int]
    height: Sourced[int]
    n: int
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_plan(
    request: GenerationRequest,
    checkpoint: Model,
    adapters: Sequence[tuple[Model, float | None]],
    *,
    own_scheduler: str | None,
    native_size: tuple[int, int],
    config_of: str,
    random_seed: Callable[[], int] = lambda: secrets.randbelow(2**32),
) -> Plan:
    """Raises InvalidRequest for values outside LIMITS or an adapter named twice.

    `own_scheduler` and `native_size` (width, height in pixels) are what the pipeline's configuration says, which is that of the model
    named `config_of`: a single-file checkpoint borrows another's.
    """
    _check(request, adapters)
    lcm = [model for model, weight in adapters if model.kind == Kind.LCM_LORA and weight != 0]
    planned = tuple(_plan_adapter(model, weight, beside_lcm=bool(lcm)) for model, weight in adapters)

    # An LCM-LoRA changes how to sample, so its word comes before the checkpoint's.
    teacher = lcm[0] if lcm else checkpoint
    if lcm:
        defaults, by = LCM_SAMPLER, f"{GUIDE}: with an LCM-LoRA"
    else:
        defaults, by = FAMILY_SAMPLER.get(checkpoint.family, ANY_SAMPLER), f"usual for {checkpoint.family}"

    def sampler(name: str, requested: Any) -> Sourced[Any]:
        if requested is None and name == "scheduler" and not lcm and own_scheduler and not _stated(teacher, name):
            return Sourced(own_scheduler, Origin.RECOMMENDED, f"scheduler_config.json of {config_of}")
        return _choose(name, requested, teacher, defaults[name], by)

    width, height = native_size
    return Plan(
        checkpoint=checkpoint.id,
        checkpoint_name=checkpoint.name,
        family=checkpoint.family,
        adapters=planned,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        scheduler=sampler("scheduler", request.scheduler),
        steps=sampler("steps", request.steps),
        cfg=sampler("cfg", request.cfg),
        seed=_asked_or(request.seed, random_seed, "drawn at random"),
        width=_asked_or(request.width, lambda: width, f"native size of {config_of}"),
        height=_asked_or(request.height, lambda: height, f"native size of {config_of}"),
        n=request.n,
        notes=_notes(request.prompt, planned),
    )


def adapter_weight(model: Model, *, beside_lcm: bool = False) -> Sourced[float]:
    """The weight that a LoRA gets when nobody asks for one."""
    return _plan_adapter(model, None, beside_lcm=beside_lcm).weight


def weight_range(model: Model) -> Sourced[tuple[float, float]] | None:
    """Between which weights a LoRA works, (min, max), if somebody says so."""
    low, high = model.overrides.get("weight_min"), model.overrides.get("weight_max")
    if low is not None and high is not None:
        return Sourced((low, high), Origin.USER, f"your setting for {model.name}")
    stated = model.recipe.get("weight", {})
    if stated.get("min") is None or stated.get("max") is None:
        return None
    return Sourced((stated["min"], stated["max"]), Origin.RECOMMENDED, f"{stated['by']} of {model.name}")


def _plan_adapter(model: Model, weight: float | None, *, beside_lcm: bool) -> PlannedAdapter:
    if model.kind == Kind.LCM_LORA:
        default, by = LCM_WEIGHT, f"{GUIDE}: LCM-LoRA"
    elif beside_lcm:
        default, by = LORA_BESIDE_LCM_WEIGHT, f"{GUIDE}: LoRA beside an LCM-LoRA"
    else:
        default, by = LORA_WEIGHT, f"{GUIDE}: LoRA"
    chosen = _choose("weight", weight, model, default, by)
    return PlannedAdapter(model.id, model.name, model.kind, chosen, tuple(model.triggers))


def _choose(name: str, requested: Any, model: Model, default: Any, by: str) -> Sourced[Any]:
    if requested is not None:
        return Sourced(requested, Origin.REQUESTED, "request")
    if (own := model.overrides.get(name)) is not None:
        return Sourced(own, Origin.USER, f"your setting for {model.name}")
    if stated := model.recipe.get(name):
        quote = f": “{stated['quote']}”" if stated.get("quote") else ""
        return Sourced(stated["value"], Origin.RECOMMENDED, f"{stated['by']} of {model.name}{quote}")
    return Sourced(default, Origin.DEFAULT, by)


def _stated(model: Model, name: str) -> bool:
    return name in model.overrides or name in model.recipe


def _asked_or(requested: int | None, otherwise: Callable[[], int], by: str) -> Sourced[int]:
    return (
        Sourced(otherwise(), Origin.DEFAULT, by)
        if requested is None
        else Sourced(requested, Origin.REQUESTED, "request")
    )


def check_overrides(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The user's own settings, or InvalidRequest."""
    _check_limits(settings)
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


def _check_limits(values: Mapping[str, Any]) -> None:
    for name, (low, high) in LIMITS.items():
        value = values.get(name)
        if value is not None and not low <= value <= high:
            raise InvalidRequest(f"{name} is {value}; it must be between {low} and {high}.", field=name)


def _check_weight(whose: str, weight: float) -> None:
    if not abs(weight) <= MAX_ABS_WEIGHT:
        raise InvalidRequest(
            f"{whose} is {weight}; it must be between {-MAX_ABS_WEIGHT} and {MAX_ABS_WEIGHT}.", field="weight"
        )


def _check(request: GenerationRequest, adapters: Sequence[tuple[Model, float | None]]) -> None:
    _check_limits({name: getattr(request, name) for name in LIMITS})
    seen: set[str] = set()
    for model, weight in adapters:
        if model.id in seen:
            raise InvalidRequest(f"{model.name} is named twice; name each LoRA once, with one weight.", field="loras")
        seen.add(model.id)
        if weight is not None:
            _check_weight(f"The weight of {model.name}", weight)


def _notes(prompt: str, adapters: Sequence[PlannedAdapter]) -> tuple[str, ...]:
    """What a user would want to be told, and would not see in the values."""
    words = prompt.lower()
    return tuple(
        f"{a.name} was trained on “{a.triggers[0]}”, which the prompt does not contain."
        for a in adapters
        if a.triggers and a.weight.value and not any(t.lower() in words for t in a.triggers)
    )
