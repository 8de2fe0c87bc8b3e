"""Few-step accelerations: how their authors say that each must be sampled, in one table, and which of them a model is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from probes import Kind, Report
from probes.traits import ACCELERATIONS as NAMES
from probes.traits import DECIDED
from registry.models import Model, Statement

# https://invoke-ai.github.io/InvokeAI/features/LORAS/ : the LCM-LoRA at 0.35 with the LCM scheduler, CFG about 1 and 4 to 8 steps.
GUIDE = "LoRA guide"
ACCELERATION = "acceleration"
"""Name of the statement that says which one a model is."""
_HUB = "https://huggingface.co"
_LORAS = (Kind.LORA, Kind.LCM_LORA)
_UNETS = ("sd-1", "sd-2", "sdxl")  # those that are trained by flow matching have other schedulers


@dataclass(frozen=True, slots=True)
class Recipe:
    """`cfg`, `steps` and `weight`: where to start; `steps_range` and `cfg_range`: what the authors allow, both ends included. `schedulers`:
    the first is used, any of them is right. `by`: whose word it is. `eta` None: the scheduler's own.

    It is for models with `trait` whose kind is in `kinds`, whose family is in `families`, and whose file name `named` matches.
    `counted`: the file's name says for how many steps it was made, and it runs with no other number.
    """

    trait: str
    by: str
    schedulers: tuple[str, ...]
    steps: int
    cfg: float
    weight: float = 1.0
    steps_range: tuple[int, int] = (1, 8)
    cfg_range: tuple[float, float] = (0.0, 1.0)
    eta: float | None = None
    kinds: tuple[Kind, ...] = _LORAS
    families: tuple[str, ...] = _UNETS
    named: str = ""
    counted: bool = False


_LIGHTNING, _HYPER = f"{_HUB}/ByteDance/SDXL-Lightning", f"{_HUB}/ByteDance/Hyper-SD"
_TURBO, _TURBO_3 = f"{_HUB}/stabilityai/sdxl-turbo", f"{_HUB}/stabilityai/stable-diffusion-3.5-large-turbo"
_PCM = f"{_HUB}/wangfuyun/PCM_Weights"
_CHECKPOINT = (Kind.CHECKPOINT,)

RECIPES: tuple[Recipe, ...] = (
    Recipe("lcm", f"{GUIDE}: LCM-LoRA", ("lcm",), 4, 1.0, 0.35, (4, 8), (0.0, 2.0)),
    # The guidance is an input of the network: no second pass, and no burning at 8.
    Recipe("lcm", f"{_HUB}/SimianLuo/LCM_Dreamshaper_v7", ("lcm",), 4, 8.0, 1.0, (2, 8), (1.0, 14.0), kinds=_CHECKPOINT),
    Recipe("tcd", f"{_HUB}/h1t/TCD-SDXL-LoRA", ("tcd",), 4, 0.0, 1.0, (4, 50), (0.0, 1.0), 0.3),
    Recipe("hyper", _HYPER, ("euler",), 8, 5.0, 0.125, (4, 16), (3.0, 7.0), families=("sd-3",), counted=True),
    Recipe("hyper", _HYPER, ("euler",), 8, 3.5, 0.125, (8, 16), (3.5, 3.5), families=("flux-1",), counted=True),
    Recipe("hyper", _HYPER, ("ddim_trailing",), 8, 6.0, 1.0, (8, 12), (5.0, 8.0), named="cfg", counted=True),
    Recipe("hyper", _HYPER, ("tcd",), 1, 0.0, 1.0, (1, 8), (0.0, 1.0), 1.0, named=r"(?<!\d)1[-_ ]?step"),
    Recipe("hyper", _HYPER, ("ddim_trailing",), 8, 0.0, counted=True, kinds=(*_LORAS, *_CHECKPOINT)),
    Recipe("lightning", f"{_HUB}/lightx2v/Qwen-Image-Lightning", ("euler",), 8, 1.0, 1.0, (4, 8), families=("qwen-image",), counted=True),
    Recipe("lightning", _LIGHTNING, ("euler_trailing",), 4, 0.0, steps_range=(2, 8), counted=True, kinds=(*_LORAS, *_CHECKPOINT)),
    Recipe("dmd2", f"{_HUB}/tianweiy/DMD2", ("lcm",), 4, 0.0, steps_range=(4, 4), kinds=(*_LORAS, *_CHECKPOINT)),
    Recipe("pcm", _PCM, ("ddim_trailing", "euler_trailing", "euler"), 4, 5.5, 1.0, (2, 16), (2.0, 9.0), named="normalcfg", counted=True),
    Recipe("pcm", _PCM, ("ddim_trailing", "euler_trailing", "euler"), 4, 1.5, 1.0, (2, 16), (1.0, 2.0), counted=True),
    Recipe("flash", f"{_HUB}/jasperai/flash-sdxl", ("lcm",), 4, 0.0, steps_range=(4, 4)),
    Recipe("turbo", f"{_HUB}/alimama-creative/FLUX.1-Turbo-Alpha", ("euler",), 8, 3.5, 1.0, (8, 8), (3.5, 3.5), families=("flux-1",)),
    Recipe("turbo", _TURBO_3, ("euler",), 4, 0.0, steps_range=(4, 8), families=("sd-3",), kinds=_CHECKPOINT),
    Recipe("turbo", _TURBO, ("euler_a_trailing", "euler_trailing"), 1, 0.0, 1.0, (1, 4), kinds=(*_LORAS, *_CHECKPOINT)),
)  # fmt: skip
"""First match wins. Figures: `by`, and for LCM-LoRA the guide. LCM has timesteps of its own, so that Flash's trailing spacing changes
nothing there."""

_CHECKPOINT_NAMES = {name: NAMES[name] for name in ("lightning", "turbo", "dmd2")} | {
    "hyper": re.compile(r"hyper[-_ ]?sd", re.IGNORECASE)  # "hyper" alone is what many a realistic checkpoint is called
}
_COUNT = re.compile(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Accelerated:
    """`steps`: the number in the file's name `file`, if the recipe goes by it."""

    recipe: Recipe
    file: str
    steps: int | None


def acceleration(model: Model) -> Accelerated | None:
    """The recipe for a model that is an acceleration, or carries one; None for an ordinary model.

    What the probe decided counts, and for checkpoints, which it does not weigh, the name.
    """
    trait = _trait(model)
    if trait is None:
        return None
    names = tuple(_file_names(model))
    for recipe in RECIPES:
        if recipe.trait == trait and model.kind in recipe.kinds and model.family in recipe.families:
            matched = next((name for name in names if re.search(recipe.named, name, re.IGNORECASE)), None)
            if matched is not None:
                counted = ((name, match) for name in names if (match := _COUNT.search(name)))
                file, match = next(counted, (matched, None)) if recipe.counted else (matched, None)
                return Accelerated(recipe, file, int(match[1]) if match else None)
    return None


def decided(report: Report) -> tuple[Statement, ...]:
    """The acceleration that the probe has made up its mind on, to be recorded with the model."""
    sure = [trait for trait in report.traits if trait.confidence >= DECIDED]
    return tuple(Statement(ACCELERATION, t.name, "probe") for t in sorted(sure, key=lambda t: -t.confidence)[:1])


def _trait(model: Model) -> str | None:
    if model.kind == Kind.LCM_LORA:
        return "lcm"
    if stated := model.stated(ACCELERATION):
        return str(stated.value)
    if model.kind != Kind.CHECKPOINT:
        return None
    said = " ".join(filter(None, (model.repo_id, model.name)))
    return next((name for name, pattern in _CHECKPOINT_NAMES.items() if pattern.search(said)), None)


def _file_names(model: Model) -> Iterator[str]:
    """Every name that the model's file has or had, without folders: files are renamed when they are installed."""
    yield PurePosixPath(model.source).name
    yield PurePosixPath(model.path).name
    yield model.name
