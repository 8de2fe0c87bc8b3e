"""The schedulers that can be asked for, by their common names. A table; diffusers is imported by whoever builds one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Scheduler:
    """`diffusers` is a class of that library, built from the checkpoint's own scheduler configuration with `overrides` on top.

    `eta` is the stochasticity that DDIM and TCD take (the pipeline would otherwise give 0 to both).
    """

    name: str
    label: str
    diffusers: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    eta: float = 0.0


_UNCLIPPED = {"clip_sample": False}
"""Latents are not confined to [-1, 1]. DDIM built from a configuration that does not say so would clip them."""

SCHEDULERS: Mapping[str, Scheduler] = {
    scheduler.name: scheduler
    for scheduler in (
        Scheduler("ddim", "DDIM", "DDIMScheduler", _UNCLIPPED),
        Scheduler("pndm", "PNDM", "PNDMScheduler", {"skip_prk_steps": True}),
        Scheduler("euler", "Euler", "EulerDiscreteScheduler"),
        Scheduler("euler_a", "Euler a", "EulerAncestralDiscreteScheduler"),
        Scheduler("dpmpp_2m", "DPM++ 2M", "DPMSolverMultistepScheduler", {"use_karras_sigmas": False}),
        Scheduler("dpmpp_2m_karras", "DPM++ 2M Karras", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        Scheduler("unipc", "UniPC", "UniPCMultistepScheduler"),
        Scheduler("lcm", "LCM", "LCMScheduler", _UNCLIPPED),
        # eta 0.3: the TCD authors' default, https://huggingface.co/h1t/TCD-SDXL-LoRA
        Scheduler("tcd", "TCD", "TCDScheduler", _UNCLIPPED, eta=0.3),
    )
}

_SPELLINGS: Mapping[str, str] = {
    spelling.casefold(): scheduler.name
    for scheduler in reversed(list(SCHEDULERS.values()))  # the first of two with one class wins
    for spelling in (scheduler.diffusers, scheduler.label, scheduler.name)
}


def canonical(name: str) -> str:
    """The table's name for a scheduler that is spelled as the table, its label or diffusers' class spells it; case does not matter.

    Raises InvalidRequest, with the names that there are.
    """
    if (found := _SPELLINGS.get(name.strip().casefold())) is None:
        raise InvalidRequest(
            f"There is no scheduler {name!r}; there are {', '.join(SCHEDULERS)}.",
            field="scheduler",
            choices=list(SCHEDULERS),
        )
    return found


def scheduler_of(config: Mapping[str, Any]) -> str:
    """The canonical name for a `scheduler_config.json`. A class that is not in the table runs as `ddim`, the deterministic reference."""
    karras = bool(config.get("use_karras_sigmas", False))
    for scheduler in SCHEDULERS.values():
        if (
            scheduler.diffusers == config.get("_class_name")
            and scheduler.overrides.get("use_karras_sigmas", karras) == karras
        ):
            return scheduler.name
    return "ddim"
