"""Each acceleration is sampled as its authors say; what contradicts them is obeyed, and said."""

from __future__ import annotations

import re
from typing import Any

import pytest

from probes import Outcome, Report, Trait
from registry.accelerations import RECIPES, acceleration, decided
from registry.backends.schedulers import SCHEDULERS
from registry.plans import Origin
from tests.registry.test_recipes import model, plan, weights

TRAITS = ("tcd", "hyper", "lightning", "dmd2", "pcm", "flash", "turbo")


def seen(trait: str, confidence: float) -> Report:
    return Report(Outcome.IDENTIFIED, "", traits=(Trait(trait, confidence),))


def lora(trait: str, file: str = "some.safetensors", **fields: Any) -> Any:
    return model(
        "lora",
        source=f"hf://a/b@{'0' * 40}/{file}",
        statements=decided(seen(trait, 0.9)),
        **{"family": "sdxl", **fields},
    )


def test_every_recipe_uses_schedulers_of_the_table_and_starts_within_its_own_ranges() -> None:
    for recipe in RECIPES:
        assert set(recipe.schedulers) <= set(SCHEDULERS)
        assert recipe.steps_range[0] <= recipe.steps <= recipe.steps_range[1]
        assert recipe.cfg_range[0] <= recipe.cfg <= recipe.cfg_range[1]
        assert recipe.by.startswith(("https://", "LoRA guide"))
        re.compile(recipe.named)


@pytest.mark.parametrize(
    ("trait", "file", "family", "expected"),
    [
        ("tcd", "pytorch_lora_weights.safetensors", "sdxl", ("tcd", 4, 0.0, 1.0, 0.3)),
        ("hyper", "Hyper-SDXL-8steps-lora.safetensors", "sdxl", ("ddim_trailing", 8, 0.0, 1.0, None)),
        ("hyper", "Hyper-SD15-1step-lora.safetensors", "sd-1", ("tcd", 1, 0.0, 1.0, 1.0)),
        ("hyper", "Hyper-SD15-12steps-CFG-lora.safetensors", "sd-1", ("ddim_trailing", 12, 6.0, 1.0, None)),
        ("hyper", "Hyper-SD3-4steps-CFG-lora.safetensors", "sd-3", ("euler", 4, 5.0, 0.125, None)),
        ("hyper", "Hyper-FLUX.1-dev-16steps-lora.safetensors", "flux-1", ("euler", 16, 3.5, 0.125, None)),
        ("lightning", "sdxl_lightning_2step_lora.safetensors", "sdxl", ("euler_trailing", 2, 0.0, 1.0, None)),
        ("dmd2", "dmd2_sdxl_4step_lora.safetensors", "sdxl", ("lcm", 4, 0.0, 1.0, None)),
        ("pcm", "pcm_sdxl_normalcfg_16step_converted.safetensors", "sdxl", ("ddim_trailing", 16, 5.5, 1.0, None)),
        ("pcm", "pcm_sd15_smallcfg_2step_converted.safetensors", "sd-1", ("ddim_trailing", 2, 1.5, 1.0, None)),
        ("flash", "pytorch_lora_weights.safetensors", "sdxl", ("lcm", 4, 0.0, 1.0, None)),
        ("turbo", "diffusion_pytorch_model.safetensors", "flux-1", ("euler", 8, 3.5, 1.0, None)),
        ("lightning", "Qwen-Image-Lightning-4steps-V1.0.safetensors", "qwen-image", ("euler", 4, 1.0, 1.0, None)),
        ("turbo", "sdxl_turbo_lora.safetensors", "sdxl", ("euler_a_trailing", 1, 0.0, 1.0, None)),
    ],
)
def test_the_published_files_get_their_authors_recipe(trait: str, file: str, family: str, expected: Any) -> None:
    made = plan(lora(trait, file, family=family), checkpoint=model("checkpoint", "base", family=family))
    weight = made.adapters[0].weight
    assert (made.scheduler.value, made.steps.value, made.cfg.value, weight.value, made.eta) == expected
    assert {weight.origin, made.cfg.origin, made.scheduler.origin} == {Origin.RECOMMENDED}
    assert "huggingface.co/" in made.cfg.by
    assert made.warnings == ()


def test_the_number_in_the_file_s_name_beats_the_card_which_tells_of_every_file() -> None:
    card = {"steps": {"value": 4, "by": "model card"}}
    made = plan(lora("lightning", "sdxl_lightning_8step_lora.safetensors", recipe=card))
    assert (made.steps.value, made.steps.by) == (8, "the file's name: sdxl_lightning_8step_lora.safetensors")
    assert plan(lora("lightning", "renamed.safetensors", recipe=card)).steps.value == 4
    assert plan(lora("lightning", "l_8step.safetensors", overrides={"steps": 2})).steps.value == 2


@pytest.mark.parametrize(
    ("adapter", "request_", "said"),
    [
        (model("lcm_lora"), {"cfg": 7.0}, r"CFG 7 with lcm_lora: it was made for 0 to 2; .*LoRA guide"),
        (model("lcm_lora"), {"steps": 25}, r"25 steps with lcm_lora: it was made for 4 to 8 steps"),
        (model("lcm_lora"), {"scheduler": "euler"}, r"scheduler euler with lcm_lora: it was made for lcm"),
        (lora("lightning", "l_4step.safetensors"), {"steps": 8}, r"8 steps with lora: it was made for 4 steps"),
        (lora("lightning"), {"scheduler": "euler"}, r"it was made for euler_trailing"),
        (lora("pcm", "normalcfg.safetensors"), {"cfg": 1.0}, r"CFG 1 with lora: it was made for 2 to 9"),
    ],
)
def test_a_contradiction_is_obeyed_and_said(adapter: Any, request_: dict[str, Any], said: str) -> None:
    made = plan(adapter, **request_)
    name, value = next(iter(request_.items()))
    assert getattr(made, name).value == value
    assert len(made.warnings) == 1
    assert re.search(said, made.warnings[0])


def test_the_recipe_itself_contradicts_nothing_nor_does_an_adapter_that_is_off() -> None:
    assert plan(model("lcm_lora")).warnings == ()
    assert plan(model("lcm_lora"), cfg=1.5, steps=8, scheduler="lcm").warnings == ()
    assert plan((model("lcm_lora"), 0.0), cfg=7.0, steps=25).warnings == ()


def test_of_two_accelerations_the_first_is_used_and_said() -> None:
    made = plan(lora("tcd"), model("lcm_lora", "fast"))
    assert made.scheduler.value == "tcd"
    assert "lora and fast are accelerations" in made.warnings[0]


def test_a_lora_beside_an_lcm_lora_weighs_less_but_not_beside_the_others() -> None:
    style = model("lora", "style")
    assert weights(plan(model("lcm_lora"), style))[1] == (0.45, Origin.DEFAULT)
    assert weights(plan(lora("lightning"), style))[1] == (0.75, Origin.DEFAULT)


@pytest.mark.parametrize("trait", TRAITS)
def test_a_trait_that_is_not_decided_changes_nothing(trait: str) -> None:
    unsure = model("lora", statements=decided(seen(trait, 0.55)))
    assert acceleration(unsure) is None


@pytest.mark.parametrize(
    ("name", "scheduler", "steps"),
    [
        ("dreamshaperXL_lightning", "euler_trailing", 4),
        ("juggernaut-lightning-8step", "euler_trailing", 8),
        ("sdxl-turbo", "euler_a_trailing", 1),
        ("RealVis-Hyper-SDXL-4step", "ddim_trailing", 4),
        ("hyper-realistic-vision", "ddim", 25),  # an adjective, not the acceleration
        ("juggernaut", "ddim", 25),
    ],
)
def test_a_checkpoint_is_what_its_name_says(name: str, scheduler: str, steps: int) -> None:
    made = plan(checkpoint=model("checkpoint", name, family="sdxl"))
    assert (made.scheduler.value, made.steps.value) == (scheduler, steps)


def test_a_checkpoint_whose_network_takes_the_guidance_as_an_input_keeps_it() -> None:
    distilled = model("checkpoint", "dreamshaper-lcm", statements=decided(seen("lcm", 0.7)))
    made = plan(checkpoint=distilled, negative_prompt="blue")
    assert (made.scheduler.value, made.steps.value, made.cfg.value) == ("lcm", 4, 8.0)


def test_a_lora_s_word_comes_before_the_checkpoint_s() -> None:
    made = plan(model("lcm_lora"), checkpoint=model("checkpoint", "some-lightning", family="sdxl"))
    assert made.scheduler.value == "lcm"
