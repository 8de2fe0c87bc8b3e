"""Every value of a plan, and where it came from: requested > user > recommended > default."""

from __future__ import annotations

from typing import Any

import pytest

from registry.errors import InvalidRequest
from registry.models import Digest, Model, Provenance, Statement, Trigger
from registry.plans import ConfigFacts, GenerationRequest, Origin, Plan
from registry.recipes import StartPicture, check_overrides, make_plan


def model(kind: str, name: str = "", **fields: Any) -> Model:
    facts: dict[str, Any] = {"family": "sd-1", "format": "safetensors", "path": name, "size": 1}
    recipe = fields.pop("recipe", {})
    facts["statements"] = tuple(Statement(k, v["value"], v["by"], v.get("quote", "")) for k, v in recipe.items())
    facts["sources"] = tuple(Provenance(url) for url in [fields.pop("source", "")] if url)
    facts["trigger_words"] = tuple(Trigger(word, "model card") for word in fields.pop("triggers", ()))
    return Model(id=name or kind, name=name or kind, kind=kind, **{**facts, **fields})


BASE = model("checkpoint", "base")
STATES_08 = {"weight": {"value": 0.8, "by": "model card", "quote": "Recommended weight: 0.8."}}


CONFIG = ConfigFacts("base", "ddim", "DDIMScheduler", (64, 48))


def plan(
    *adapters: Model | tuple[Model, float],
    checkpoint: Model = BASE,
    config: ConfigFacts = CONFIG,
    start: StartPicture | None = None,
    **request: Any,
) -> Plan:
    pairs = [a if isinstance(a, tuple) else (a, None) for a in adapters]
    return make_plan(
        GenerationRequest("base", **{"prompt": "a cat", **request}),
        checkpoint,
        pairs,
        config=config,
        start=start,
        random_seed=lambda: 7,
    )


def weights(made: Plan) -> list[tuple[float, Origin]]:
    return [(a.weight.value, a.weight.origin) for a in made.adapters]


def test_a_request_with_an_lcm_lora_alone_gets_the_guides_table() -> None:
    made = plan(model("lcm_lora"))
    assert weights(made) == [(0.35, Origin.DEFAULT)]
    assert (made.scheduler.value, made.cfg.value) == ("lcm", 1.0)
    assert 4 <= made.steps.value <= 8
    assert {made.scheduler.origin, made.cfg.origin, made.steps.origin} == {Origin.DEFAULT}


def test_an_ordinary_lora_beside_an_lcm_lora_starts_at_0_45_and_alone_at_0_75() -> None:
    assert weights(plan(model("lora"), model("lcm_lora")))[0] == (0.45, Origin.DEFAULT)
    assert weights(plan(model("lora"))) == [(0.75, Origin.DEFAULT)]


def test_what_the_provider_states_beats_the_guide_and_is_quoted() -> None:
    made = plan(
        model("lora", recipe=STATES_08),
        model("lcm_lora", recipe={**STATES_08, "steps": {"value": 8, "by": "model card"}}),
    )
    assert weights(made) == [(0.8, Origin.RECOMMENDED), (0.8, Origin.RECOMMENDED)]
    assert "Recommended weight: 0.8." in made.adapters[0].weight.by
    assert (made.steps.value, made.steps.origin) == (8, Origin.RECOMMENDED)


def test_the_users_setting_beats_the_provider_and_the_request_beats_both() -> None:
    lora = model("lora", recipe=STATES_08, overrides={"weight": 0.6})
    assert weights(plan(lora)) == [(0.6, Origin.USER)]
    assert weights(plan((lora, 0.2))) == [(0.2, Origin.REQUESTED)]


def test_what_is_asked_for_wins_even_against_an_lcm_lora() -> None:
    made = plan(model("lcm_lora"), steps=20, cfg=4.0, scheduler="euler")
    assert (made.steps.value, made.cfg.value, made.scheduler.value) == (20, 4.0, "euler")
    assert {made.steps.origin, made.cfg.origin, made.scheduler.origin} == {Origin.REQUESTED}


def test_an_lcm_lora_at_weight_zero_does_not_change_how_to_sample() -> None:
    assert plan((model("lcm_lora"), 0.0)).scheduler.value == "ddim"


def test_an_lcm_lora_that_its_user_switched_off_does_not_either() -> None:
    off = model("lcm_lora", overrides={"weight": 0.0})
    made = plan(model("lora"), off)
    assert (made.scheduler.value, made.warnings) == ("ddim", ())
    assert weights(made) == [(0.75, Origin.DEFAULT), (0.0, Origin.USER)]
    assert plan((off, 0.35)).scheduler.value == "lcm"


def test_settings_of_a_checkpoint_that_an_acceleration_does_away_with_are_told() -> None:
    own = model("checkpoint", "base", overrides={"steps": 30, "cfg": 6.0})
    made = plan(model("lcm_lora"), checkpoint=own)
    assert (made.steps.value, made.cfg.value) == (4, 1.0)
    assert "Your steps 30, cfg 6.0 for base do not count here: lcm_lora" in made.warnings[0]
    assert plan(model("lcm_lora"), checkpoint=own, steps=8, cfg=1.0).warnings == ()
    assert plan(checkpoint=own).warnings == ()


def test_an_ordinary_lora_takes_no_settings_that_would_never_be_used() -> None:
    with pytest.raises(InvalidRequest, match="steps, cfg would never be used"):
        check_overrides(model("lora"), {"steps": 30, "cfg": 5.0})
    assert check_overrides(model("lora"), {"weight": 0.5, "steps": None}) == {"weight": 0.5, "steps": None}
    for kind in ("lcm_lora", "checkpoint"):
        assert check_overrides(model(kind), {"steps": 8}) == {"steps": 8}


def test_what_a_stranger_s_configuration_makes_of_a_request_is_held_against_the_limits_too() -> None:
    with pytest.raises(InvalidRequest, match="width"):
        plan(config=ConfigFacts("base", "ddim", "DDIMScheduler", (80_000, 64)))
    with pytest.raises(InvalidRequest, match="width"):
        plan(
            config=ConfigFacts("base", "ddim", "DDIMScheduler", (1024, 1024)),
            start=StartPicture("d", (90_000, 1)),
            image=b"",
        )


def test_without_an_lcm_lora_the_checkpoint_speaks_then_its_family() -> None:
    taught = model("checkpoint", "base", recipe={"cfg": {"value": 5.0, "by": "model card", "quote": "CFG 5"}})
    made = plan(checkpoint=taught)
    assert (made.scheduler.value, made.scheduler.origin) == ("ddim", Origin.RECOMMENDED)
    assert (made.cfg.value, made.cfg.origin) == (5.0, Origin.RECOMMENDED)
    assert (made.steps.value, made.steps.origin) == (25, Origin.DEFAULT)


def test_size_is_the_checkpoints_own_and_the_seed_is_told() -> None:
    made = plan()
    assert (made.width.value, made.height.value, made.seed.value) == (64, 48, 7)
    assert made.seed.by == "drawn at random"
    assert plan(seed=3).seed.origin is Origin.REQUESTED


def test_a_trigger_that_the_prompt_lacks_is_noted() -> None:
    heart = model("lora", triggers=["heart"])
    assert "heart" in plan(heart).notes[0]
    assert plan(heart, prompt="a red HEART").notes == ()
    assert plan((heart, 0.0)).notes == ()


# --- image-to-image -----------------------------------------------------------------------------------------------------


def test_a_start_picture_gives_its_shape_at_most_at_the_native_area() -> None:
    def size(*start: int, **request: Any) -> tuple[int, int]:
        made = plan(start=StartPicture("digest", (start[0], start[1])), image=b"", **request)
        return made.width.value, made.height.value

    assert size(32, 32) == (32, 32)
    assert size(30, 21) == (32, 24)
    assert size(640, 480) == (64, 48)
    assert size(4000, 250) == (224, 16)  # area 3072, ratio 16
    assert size(640, 480, width=40) == (40, 48)


def test_strength_is_planned_with_a_start_picture_and_refused_without() -> None:
    start = StartPicture("digest", (64, 64))
    assert plan(start=start, image=b"").strength.value == 0.75  # type: ignore[union-attr]
    assert plan(start=start, image=b"", strength=0.5).strength.origin is Origin.REQUESTED  # type: ignore[union-attr]
    assert plan().strength is None
    with pytest.raises(InvalidRequest, match="no image"):
        plan(strength=0.5)


# --- what is taken for granted ------------------------------------------------------------------------------------------


def test_a_scheduler_that_is_not_known_is_said() -> None:
    strange = ConfigFacts("base", None, "StrangeScheduler", (64, 48))
    made = plan(config=strange)
    assert (made.scheduler.value, made.scheduler.origin) == ("pndm", Origin.DEFAULT)
    assert "StrangeScheduler" in made.warnings[0]
    assert plan(config=strange, scheduler="euler").warnings == ()


def test_sd_2_that_does_not_say_what_it_predicts_is_said() -> None:
    silent = model("checkpoint", "base", family="sd-2")
    assert "v_prediction" in plan(checkpoint=silent).warnings[0]
    assert plan(checkpoint=silent, prediction_type="v_prediction").warnings == ()
    told = model("checkpoint", "base", family="sd-2", prediction_type="v_prediction")
    made = plan(checkpoint=told)
    assert (made.prediction_type.value, made.warnings) == ("v_prediction", ())  # type: ignore[union-attr]
    assert plan().warnings == ()


def test_flux_has_samplers_of_its_own_and_no_negative_prompt() -> None:
    base = model("checkpoint", family="flux-1")
    made = plan(checkpoint=base, negative_prompt="blue")
    assert (made.steps.value, made.cfg.value) == (28, 3.5)
    assert "negative prompt has no effect" in made.warnings[0]
    fast = plan(checkpoint=model("checkpoint", family="flux-1", variant="schnell"))
    assert (fast.steps.value, fast.cfg.value, fast.steps.by) == (4, 0.0, "usual for flux-1 schnell")


def test_a_negative_prompt_without_guidance_is_said() -> None:
    assert "negative prompt" in plan(negative_prompt="blue", cfg=1.0).warnings[0]
    assert plan(negative_prompt="blue", cfg=2.0).warnings == ()


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"steps": 151}, {"cfg": -1.0}, {"cfg": float("nan")}, {"n": 0}, {"n": 17}, {"prediction_type": "x"}],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(wrong))):
        plan(**wrong)


def test_weights_out_of_range_and_a_lora_named_twice_are_refused() -> None:
    lora = model("lora")
    for weight in (5.0, -5.0, float("nan"), float("inf")):
        with pytest.raises(InvalidRequest, match="weight"):
            plan((lora, weight))
    with pytest.raises(InvalidRequest, match="twice"):
        plan(lora, lora)
    with pytest.raises(InvalidRequest, match="copy is the same file as lora"):
        plan(*(model("lora", name, digests=(Digest("blake3", "ab"),)) for name in ("lora", "copy")))
