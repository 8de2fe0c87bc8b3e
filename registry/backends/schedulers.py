"""The schedulers that can be asked for, by their common names. A table; diffusers is imported by whoever builds one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Scheduler:
    """`diffusers` is a class of that library, built from the checkpoint's own scheduler configuration with `overrides` on top; `flow` is
    the class for checkpoints that were trained by flow matching (None: there is none).

    `eta` is the stochasticity that DDIM and TCD take (the pipeline would otherwise give 0 to both).
    """

    name: str
    label: str
    diffusers: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    eta: float = 0.0
    flow: str | None = None
    also: tuple[str, ...] = ()


_UNCLIPPED = {"clip_sample": False}
"""Latents are not confined to [-1, 1]. DDIM built from a configuration that does not say so would clip them."""
_SDE = {"algorithm_type": "sde-dpmsolver++"}

_BASES = (
    Scheduler("ddim", "DDIM", "DDIMScheduler", _UNCLIPPED),
    Scheduler("ddpm", "DDPM", "DDPMScheduler", _UNCLIPPED),
    Scheduler("pndm", "PNDM", "PNDMScheduler", {"skip_prk_steps": True}, also=("PLMS",)),
    Scheduler(
        "euler", "Euler", "EulerDiscreteScheduler", flow="FlowMatchEulerDiscreteScheduler", also=("k_euler", "flow match euler")
    ),
    Scheduler("euler_a", "Euler a", "EulerAncestralDiscreteScheduler", also=("euler ancestral", "k_euler_a")),
    Scheduler("heun", "Heun", "HeunDiscreteScheduler", flow="FlowMatchHeunDiscreteScheduler", also=("k_heun",)),
    Scheduler("dpm2", "DPM2", "KDPM2DiscreteScheduler", also=("dpm_2", "k_dpm_2")),
    Scheduler("dpm2_a", "DPM2 a", "KDPM2AncestralDiscreteScheduler", also=("dpm_2_ancestral", "k_dpm_2_a")),
    Scheduler("dpmpp_2m", "DPM++ 2M", "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}, also=("dpm++", "k_dpmpp_2m")),
    Scheduler("dpmpp_2m_sde", "DPM++ 2M SDE", "DPMSolverMultistepScheduler", _SDE),
    Scheduler("dpmpp_2s", "DPM++ 2S", "DPMSolverSinglestepScheduler", {"algorithm_type": "dpmsolver++"}),
    Scheduler("dpmpp_sde", "DPM++ SDE", "DPMSolverSinglestepScheduler", _SDE, also=("k_dpmpp_sde",)),
    Scheduler("unipc", "UniPC", "UniPCMultistepScheduler", also=("uni_pc",)),
    Scheduler("deis", "DEIS", "DEISMultistepScheduler", {"algorithm_type": "deis"}),
    Scheduler("lcm", "LCM", "LCMScheduler", _UNCLIPPED, flow="FlowMatchLCMScheduler"),
    # eta 0.3: the TCD authors' default, https://huggingface.co/h1t/TCD-SDXL-LoRA
    Scheduler("tcd", "TCD", "TCDScheduler", _UNCLIPPED, eta=0.3),
)  # fmt: skip
_KARRAS = frozenset(
    {"euler", "heun", "dpm2", "dpm2_a", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "dpmpp_2s", "unipc", "deis"}
)
"""Those that can space their noise levels as Karras et al. 2022 do."""
_TRAILING = frozenset({"ddim", "ddpm", "pndm", *_KARRAS, "euler_a"}) - {"dpmpp_2s", "dpmpp_sde"}
"""Those that can begin at the very last timestep. LCM and TCD have timesteps of their own and ignore the spacing."""


def _spaced(base: Scheduler) -> Iterator[Scheduler]:
    """`base`, and its variants: `_karras`, `_trailing`. Plain `base` keeps the checkpoint's spacing, and no Karras levels."""

    def variant(suffix: str, label: str, *words: str, **overrides: Any) -> Scheduler:
        also = tuple(f"{spelling} {word}" for spelling in (base.name, base.label, *base.also) for word in words)
        return Scheduler(
            base.name + suffix,
            base.label + label,
            base.diffusers,
            {**base.overrides, **overrides},
            base.eta,
            None,
            also,
        )

    karras = base.name in _KARRAS
    plain = {"use_karras_sigmas": False} if karras else {}
    yield Scheduler(base.name, base.label, base.diffusers, {**base.overrides, **plain}, base.eta, base.flow, base.also)
    if karras:
        yield variant("_karras", " Karras", "karras", use_karras_sigmas=True)
    if base.name in _TRAILING:
        yield variant("_trailing", " trailing", "trailing", "sgm uniform", timestep_spacing="trailing", **plain)


SCHEDULERS: Mapping[str, Scheduler] = {variant.name: variant for base in _BASES for variant in _spaced(base)}


def _normal(spelling: str) -> str:
    """Case, blanks, hyphens and underscores carry no meaning; `++` does."""
    return re.sub(r"[^a-z0-9]", "", spelling.casefold().replace("++", "pp"))


_SPELLINGS: Mapping[str, str] = {
    _normal(spelling): scheduler.name
    for scheduler in reversed(list(SCHEDULERS.values()))  # the first of several with one class wins
    for spelling in (
        *((scheduler.flow,) if scheduler.flow else ()),
        scheduler.diffusers,
        *scheduler.also,
        scheduler.label,
        scheduler.name,
    )
}


def canonical(name: str) -> str:
    """The table's name for a scheduler as the table, A1111, ComfyUI or diffusers' classes spell it; see `_normal`.

    Raises InvalidRequest, with the names that there are.
    """
    if (found := _SPELLINGS.get(_normal(name))) is None:
        raise InvalidRequest(
            f"There is no scheduler {name!r}; there are {', '.join(base.name for base in _BASES)}, most of them also with _karras or "
            "_trailing.",
            field="scheduler",
            choices=list(SCHEDULERS),
        )
    return found


def scheduler_of(config: Mapping[str, Any]) -> str | None:
    """The canonical name for a `scheduler_config.json`; None: its class is not in the table. Its spacing needs no name: the configuration
    that a scheduler is built from has it."""
    stated = config.get("_class_name", "")
    algorithm = config.get("algorithm_type")
    for base in _BASES:
        if stated in (base.diffusers, base.flow) and base.overrides.get("algorithm_type", algorithm) == (
            algorithm or base.overrides.get("algorithm_type")
        ):
            karras = base.name in _KARRAS and bool(config.get("use_karras_sigmas"))
            return f"{base.name}_karras" if karras else base.name
    return None
