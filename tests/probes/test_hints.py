"""Names, cards and sidecars are hints, kept apart from structure: each may break a tie, none overrules a shape."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from probes import Hints, Kind, Outcome, explain, probe
from tests.probes import headers

NAMES = {  # a name as people and sites write it -> the family that it means
    "sd-1": "runwayml/stable-diffusion-v1-5",
    "sd-2": "stabilityai/stable-diffusion-2-1",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "flux-1": "black-forest-labs/FLUX.1-dev",
}
HINTS: dict[str, Callable[[str], Hints]] = {  # every way in which a family can be said beside the bytes
    "repository": lambda said: Hints(repo_id=said),
    "file name": lambda said: Hints(filename=f"{said.partition('/')[2]}.safetensors"),
    "card base_model": lambda said: Hints(card={"base_model": said}),
    "card base_model, one of a list": lambda said: Hints(card={"base_model": [said]}),
    "sidecar sd version": lambda said: Hints(sidecar={"sd version": said}),
    "sidecar baseModel": lambda said: Hints(sidecar={"baseModel": said}),
    "sidecar base_model": lambda said: Hints(sidecar={"base_model": said}),
    "sidecar BaseModel": lambda said: Hints(sidecar={"BaseModel": said}),
}
METADATA = ("modelspec.architecture", "ss_base_model_version")
DECIDED_BY_SHAPE = ["unet-sd-1-ldm", "lora-sd-1-kohya", "lora-sd-2-diffusers", "single-file-sdxl", "lora-flux-kohya"]


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("fixture", DECIDED_BY_SHAPE)
def test_no_hint_overrules_a_shape(fixture: str, hint: str) -> None:
    header = headers.load(fixture).header
    plain = probe(header)
    for family, said in NAMES.items():
        explanation = explain(header, HINTS[hint](said))
        report = explanation.report
        assert (report.outcome, report.kind, report.family) == (plain.outcome, plain.kind, plain.family)
        assert bool(explanation.overruled) == (family != plain.family)


@pytest.mark.parametrize("key", METADATA)
def test_metadata_does_not_overrule_a_shape_either(key: str) -> None:
    fixture = headers.load("lora-sd-1-kohya-no-alpha")
    lying = headers.Fixture(fixture.tensors, {}, {**fixture.metadata, key: "sdxl_base_v1-0"})
    assert probe(lying.header).family == "sd-1"


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("family", ["sd-1", "sd-2"])
def test_every_hint_breaks_a_tie(family: str, hint: str) -> None:
    header = headers.load("lora-sd-1-self-attention").header
    assert probe(header).outcome is Outcome.AMBIGUOUS
    report = probe(header, HINTS[hint](NAMES[family]))
    assert (report.outcome, report.family) == (Outcome.IDENTIFIED, family)
    assert any(e.rule == "claimed" and e.key == hint.partition(",")[0] for e in report.evidence)


@pytest.mark.parametrize("hint", HINTS)
def test_a_hint_at_a_family_that_does_not_fit_breaks_no_tie(hint: str) -> None:
    report = probe(headers.load("lora-sd-1-self-attention").header, HINTS[hint](NAMES["flux-1"]))
    assert report.outcome is Outcome.AMBIGUOUS
    assert report.candidates == ("sd-1 lora", "sd-2 lora")


def test_hints_that_contradict_each_other_leave_it_open_and_are_named() -> None:
    hints = Hints(card={"base_model": [NAMES["sd-1"], NAMES["sd-2"]]})
    report = probe(headers.load("lora-sd-1-self-attention").header, hints)
    assert report.outcome is Outcome.AMBIGUOUS
    assert "card base_model name more than one" in report.reason


@pytest.mark.parametrize(
    "hints",
    [
        Hints(repo_id="latent-consistency/lcm-lora-sdv1-5"),
        Hints(filename="lcm-lora.safetensors"),
        Hints(card={"tags": ["lcm"]}),
        Hints(card_text="# LCM-LoRA\nLatent consistency in 4 steps."),
    ],
    ids=["repository", "file name", "card tags", "card text"],
)
def test_no_name_makes_an_ordinary_lora_or_a_checkpoint_an_lcm_lora(hints: Hints) -> None:
    assert probe(headers.load("lora-sd-1-kohya").header, hints).kind is Kind.LORA
    assert probe(headers.load("unet-sd-1-ldm").header, hints).kind is Kind.CHECKPOINT


@pytest.mark.parametrize("hint", HINTS)
def test_no_name_makes_a_model_of_tensors_that_fit_nothing(hint: str) -> None:
    report = probe(headers.load("lora-allegro").header, HINTS[hint](NAMES["flux-1"]))
    assert (report.outcome, report.family) == (Outcome.UNKNOWN, None)
