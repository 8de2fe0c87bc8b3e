"""One table of schedulers, usable without diffusers; every entry of it is a class there that takes its overrides."""

from __future__ import annotations

import pytest

from registry.backends.schedulers import SCHEDULERS, canonical, scheduler_of
from registry.errors import InvalidRequest


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ddim", "ddim"),
        ("LCM", "lcm"),
        ("Euler a", "euler_a"),
        (" DPM++ 2M Karras ", "dpmpp_2m_karras"),
        ("DPMSolverMultistepScheduler", "dpmpp_2m"),
        ("TCDScheduler", "tcd"),
        ("dpmpp_2m_sde_karras", "dpmpp_2m_sde_karras"),  # ComfyUI's way
        ("DPM++ SDE Karras", "dpmpp_sde_karras"),  # A1111's
        ("euler_ancestral", "euler_a"),
        ("EulerAncestralDiscreteScheduler", "euler_a"),
        ("uni_pc", "unipc"),
        ("Euler SGM Uniform", "euler_trailing"),
        ("FlowMatchEulerDiscreteScheduler", "euler"),
        ("PLMS", "pndm"),
    ],
)
def test_spellings(spelling, name):
    assert canonical(spelling) == name


@pytest.mark.parametrize("name", ["", "ddpm2", "lcm2"])
def test_an_unknown_name_is_answered_with_the_names(name):
    with pytest.raises(InvalidRequest, match=r"dpmpp_2m, .* also with _karras or _trailing") as caught:
        canonical(name)
    assert caught.value.detail["choices"] == list(SCHEDULERS)


# numpy's conversion of torch tensors inside diffusers' Euler schedulers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_table_is_true_of_diffusers(name):
    import diffusers

    entry = SCHEDULERS[name]
    base = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "skip_prk_steps": True, "steps_offset": 1}
    scheduler = getattr(diffusers, entry.diffusers).from_config(base, **entry.overrides)
    assert entry.flow is None or hasattr(diffusers, entry.flow)
    assert entry.overrides.items() <= dict(scheduler.config).items()
    assert scheduler.config.beta_schedule == "scaled_linear"
    # the spacing is in the configuration that a scheduler is built from, and needs no name
    own = scheduler_of({**scheduler.config, "_class_name": type(scheduler).__name__})
    assert own == name.removesuffix("_trailing")


def test_no_two_schedulers_are_spelled_alike():
    assert all(canonical(name) == name for name in SCHEDULERS)
    assert all(canonical(entry.label) == name for name, entry in SCHEDULERS.items())


def test_a_class_that_is_not_in_the_table_is_not_replaced():
    assert scheduler_of({"_class_name": "StrangeScheduler"}) is None
    assert scheduler_of({}) is None
