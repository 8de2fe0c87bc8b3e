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
    ],
)
def test_spellings(spelling, name):
    assert canonical(spelling) == name


@pytest.mark.parametrize("name", ["", "ddpm++", "lcm2"])
def test_an_unknown_name_is_answered_with_the_names(name):
    with pytest.raises(InvalidRequest, match="dpmpp_2m_karras") as caught:
        canonical(name)
    assert caught.value.detail["choices"] == list(SCHEDULERS)


# numpy's conversion of torch tensors inside diffusers' Euler schedulers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_table_is_true_of_diffusers(name):
    import diffusers

    entry = SCHEDULERS[name]
    base = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "skip_prk_steps": True, "steps_offset": 1}
    scheduler = getattr(diffusers, entry.diffusers).from_config(base, **entry.overrides)
    assert entry.overrides.items() <= dict(scheduler.config).items()
    assert scheduler.config.beta_schedule == "scaled_linear"
    assert scheduler_of({**scheduler.config, "_class_name": type(scheduler).__name__}) == name
