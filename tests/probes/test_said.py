"""What the user says of a file: it decides what the shapes leave open, before every other hint, and nothing else."""

from __future__ import annotations

import pytest

from probes import Choice, Hints, Kind, Outcome, Report, explain, probe, sentence
from probes.families import NAMES
from tests.probes import headers
from tests.probes.test_engine import lora

OPEN = "lora-sd-1-self-attention"  # of sd-1 and sd-2 alike
ATTENTION = [f"down_blocks.1.attentions.0.transformer_blocks.0.attn2.{layer}" for layer in ("to_k", "to_v")]


def said(fixture: str, **hints: str) -> Report:
    return probe(headers.load(fixture).header, Hints(**hints))


@pytest.mark.parametrize("family", ["sd-1", "sd-2"])
def test_it_decides_between_families_of_the_same_layers(family: str) -> None:
    report = said(OPEN, family=family)
    assert (report.outcome, report.family, report.excluded) == (Outcome.IDENTIFIED, family, ())
    assert f"user says “{family}”" in map(sentence, report.evidence)


@pytest.mark.parametrize(
    "others",
    [
        Hints(filename="ink-sd2.safetensors"),
        Hints(repo_id="somebody/stable-diffusion-2-1-ink"),
        Hints(card={"base_model": "stabilityai/stable-diffusion-2-1"}),
        Hints(sidecar={"baseModel": "SD 2.1"}),
    ],
)
def test_it_counts_before_every_other_word(others: Hints) -> None:
    header = headers.load(OPEN).header
    assert probe(header, others).family == "sd-2"
    told = Hints(others.repo_id, others.filename, others.card, None, others.sidecar, family="sd-1")
    assert probe(header, told).family == "sd-1"


def test_it_counts_before_the_metadata() -> None:
    fixture = headers.load(OPEN)
    header = headers.Fixture(fixture.tensors, {}, {"ss_base_model_version": "sd_v2_base"}).header
    assert [probe(header, Hints(family=family)).family for family in (None, "sd-1")] == ["sd-2", "sd-1"]


def test_it_corrects_the_commoner_family_of_look_alikes_and_back() -> None:
    header = lora(*((layer, 2048, 640) for layer in ATTENTION))
    plain = probe(header)
    assert (plain.family, plain.choices[0]) == ("sdxl", Choice("sdxl", "lora"))
    assert Choice("kolors", "lora") in plain.choices
    kolors = probe(header, Hints(family="kolors"))
    assert (kolors.outcome, kolors.family, kolors.candidates) == (Outcome.IDENTIFIED, "kolors", ())
    named = Hints(filename="kolors-ink.safetensors")
    assert probe(header, named).family == "kolors"
    assert probe(header, Hints(filename=named.filename, family="sdxl")).family == "sdxl"


def test_it_may_name_the_network_that_another_was_cut_from() -> None:
    """A trainer's `sdxl` on SSD-1B's layers is its name for all of them; who says it himself means it."""
    assert said("lcm-lora-ssd-1b", kind="lora").family == "ssd-1b"
    assert said("lcm-lora-ssd-1b", kind="lora", family="sdxl").family == "sdxl"


@pytest.mark.parametrize(
    "fixture", ["unet-sd-1-ldm", "lora-sd-1-kohya", "single-file-sdxl", "lora-flux-kohya", "lora-kolors"]
)
def test_it_overrules_no_shape(fixture: str) -> None:
    plain = said(fixture)
    for family in NAMES:
        report = said(fixture, family=family)
        assert (report.outcome, report.kind) == (plain.outcome, plain.kind)
        assert [e.seen for e in report.excluded] == ([] if report.family == family else [family])
        if report.excluded:
            assert report.family == plain.family
            assert f"said to be {family}, which the shapes exclude" in report.reason


def test_a_word_that_the_shapes_exclude_leaves_open_what_was_and_tells_what_they_allow() -> None:
    report = said(OPEN, family="flux-1")
    assert (report.outcome, report.choices) == (Outcome.AMBIGUOUS, (Choice("sd-1", "lora"), Choice("sd-2", "lora")))
    assert [*map(sentence, report.excluded)] == [
        "user says “flux-1”, but the shapes allow sd-1 lora and sd-2 lora alone"
    ]
    assert explain(headers.load(OPEN).header, Hints(family="flux-1")).overruled == ()  # told once


@pytest.mark.parametrize(("fixture", "kind"), [(OPEN, "lcm_lora"), ("lcm-lora-sd-1", "checkpoint")])
def test_a_kind_that_an_open_header_excludes_is_told(fixture: str, kind: str) -> None:
    report = said(fixture, kind=kind)
    assert (report.outcome, [e.seen for e in report.excluded]) == (Outcome.AMBIGUOUS, [kind])


def test_it_decides_whether_a_few_step_layout_is_lcm() -> None:
    plain = said("lcm-lora-sd-1")
    assert (plain.outcome, plain.choices) == (Outcome.AMBIGUOUS, (Choice("sd-1", "lora"), Choice("sd-1", "lcm_lora")))
    ordinary, lcm = said("lcm-lora-sd-1", kind="lora"), said("lcm-lora-sd-1", kind="lcm_lora")
    assert (ordinary.outcome, ordinary.kind) == (Outcome.IDENTIFIED, Kind.LORA)
    assert (lcm.outcome, lcm.kind, lcm.traits[0].confidence) == (Outcome.IDENTIFIED, Kind.LCM_LORA, 1)


def test_it_corrects_what_the_names_say_of_an_acceleration() -> None:
    named = "lcm-lora-sdv1-5.safetensors"
    assert said("lcm-lora-sd-1", filename=named).kind is Kind.LCM_LORA
    ordinary = said("lcm-lora-sd-1", filename=named, kind="lora")
    assert ordinary.kind is Kind.LORA
    assert all(trait.confidence < 0.6 for trait in ordinary.traits)  # nor is it sampled as one
    names = "lcm-tcd-hyper-sd-lightning-dmd2-8steps.safetensors"
    assert said("lcm-lora-sd-1", filename=names).outcome is Outcome.AMBIGUOUS
    assert said("lcm-lora-sd-1", filename=names, kind="lcm_lora").kind is Kind.LCM_LORA
    assert said("lcm-lora-sd-1", filename=names, kind="lora").kind is Kind.LORA


@pytest.mark.parametrize(
    ("fixture", "kind"), [("lora-sd-1-kohya", "lcm_lora"), ("unet-sd-1-ldm", "lora"), ("lora-sd-1-kohya", "checkpoint")]
)
def test_a_kind_that_the_layers_exclude_is_told(fixture: str, kind: str) -> None:
    plain, report = said(fixture), said(fixture, kind=kind)
    assert (report.outcome, report.kind) == (Outcome.IDENTIFIED, plain.kind)
    assert [e.seen for e in report.excluded] == [kind]
    assert not any(trait.name == "lcm" for trait in report.traits)


def test_between_a_model_and_what_is_none_nothing_can_be_said() -> None:
    assert Report(Outcome.AMBIGUOUS, "", candidates=("sd-1 checkpoint", "sd-1 controlnet")).choices == ()


@pytest.mark.parametrize("fixture", headers.names())
def test_of_no_file_it_is_passed_over_in_silence(fixture: str) -> None:
    plain = said(fixture)
    for family in ("sd-1", "sd-2", "sdxl", "kolors", "flux-1", "pixart-alpha", "ltx-2"):
        report = said(fixture, family=family)
        if plain.outcome is Outcome.IDENTIFIED:
            assert report.outcome in (Outcome.IDENTIFIED, Outcome.AMBIGUOUS)  # its family may leave the kind open
        elif plain.outcome is not Outcome.AMBIGUOUS:
            assert report == plain
        if report.outcome is Outcome.IDENTIFIED:
            assert report.family == family or report.excluded


def test_where_family_and_kind_are_open_each_may_be_said_alone_or_both() -> None:
    every = said("lcm-lora-sdxl").choices
    assert every == tuple(Choice(family, kind) for family in ("sdxl", "kolors") for kind in ("lora", "lcm_lora"))
    assert said("lcm-lora-sdxl", family="kolors").choices == every[2:]
    lcm = said("lcm-lora-sdxl", kind="lcm_lora")
    assert (lcm.outcome, lcm.family, lcm.choices) == (Outcome.IDENTIFIED, "sdxl", (every[1], every[3]))


@pytest.mark.parametrize("fixture", headers.names())
def test_every_choice_is_one_that_can_be_said(fixture: str) -> None:
    for choice in said(fixture).choices:
        report = said(fixture, **choice._asdict())
        assert (report.outcome, report.family, report.kind) == (Outcome.IDENTIFIED, *choice)
