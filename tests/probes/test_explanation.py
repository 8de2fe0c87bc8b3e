"""Why this and not that: near misses, what was overruled, and evidence in words."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

import probes.likeness
from probes import Evidence, Explanation, Header, Hints, Likeness, Outcome, TensorSpec, explain, probe, sentence
from probes.families import SIGNATURES
from probes.subject import Subject
from probes.wording import SENTENCES
from tests.probes import headers


def near(explanation: Explanation, name: str) -> Likeness:
    return next(like for like in explanation.near if like.name == name)


@pytest.mark.parametrize("name", headers.names())
def test_an_explanation_holds_the_report_of_the_plain_probe(name: str) -> None:
    header = headers.load(name).header
    explanation = explain(header)
    report = probe(header)
    assert explanation.report == report
    matched = {(like.kind, like.family) for like in explanation.matched}
    if report.outcome is Outcome.UNKNOWN:
        assert not matched
    elif report.candidates and report.family is None:
        assert {like.name for like in explanation.matched} == set(report.candidates)
    else:
        assert report.family in {family for _, family in matched}
    for like in explanation.near:
        assert like.refuted
        assert probes.likeness.ENOUGH <= like.share <= 1
        assert (like.kind, like.family) not in matched


@pytest.mark.parametrize(
    ("layout", "blocks"),
    [("ldm", "input_blocks.7.1.transformer_blocks"), ("diffusers", "down_blocks.2.attentions.0.transformer_blocks")],
)
def test_ssd_1b_fits_sdxl_by_its_width_and_not_by_its_depths(layout: str, blocks: str) -> None:
    miss = near(explain(headers.load(f"unet-ssd-1b-{layout}").header), "sdxl checkpoint")
    assert ("width", True, "2048") in {(e.rule, e.ok, e.seen) for e in miss.held}
    depth = next(r for r in miss.refuted if r.evidence.key == blocks)
    assert (depth.evidence.rule, depth.evidence.expected, depth.evidence.seen) == ("blocks", "10", "4")
    assert depth.shared == ("ssd-1b",)


def test_of_several_widths_that_would_do_the_one_that_is_there_is_told() -> None:
    held = explain(headers.load("unet-sd-1-inpaint-ldm").header).report.evidence
    assert "input_blocks.0.0.weight is 9 wide" in [sentence(evidence) for evidence in held]


def test_a_lora_that_fits_all_but_a_few_modules_says_how_many() -> None:
    explanation = explain(headers.load("lora-hunyuan-video").header)
    assert explanation.report.family == "hunyuan-video"
    assert [r.extent for r in near(explanation, "flux-1 lora").refuted] == [(18, 208)]


def test_a_longer_network_is_ruled_out_by_the_one_that_the_adapter_covers() -> None:
    """FLUX.1's attention has the names and widths of Hunyuan Video's first 19 and 38 blocks."""
    explanation = explain(headers.load("lora-flux-diffusers").header)
    assert [like.name for like in explanation.matched] == ["flux-1 lora"]
    (refuted,) = near(explanation, "hunyuan-video lora").refuted
    assert sentence(refuted.evidence) == (
        "it leaves transformer_blocks_19_attn_to_q out and touches such layers elsewhere"
    )
    told = {evidence.rule for evidence in explanation.report.evidence}
    assert "not hunyuan-video lora" in told
    assert "not flux-1 lora" not in told


def test_an_adapter_is_not_nearly_a_checkpoint_nor_a_checkpoint_nearly_the_vae_in_it() -> None:
    for name in ("lora-flux-diffusers", "single-file-sdxl"):
        explanation = explain(headers.load(name).header)
        assert {like.kind for like in explanation.near} <= {explanation.report.kind}


@pytest.mark.parametrize("name", ["unet-ssd-1b-ldm", "lora-kolors", "lora-hunyuan-video", "lora-clip-l-only"])
def test_neither_the_order_of_tensors_nor_of_signatures_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    header = headers.load(name).header
    before = explain(header)
    names = list(header.tensors)
    random.Random(3).shuffle(names)
    shuffled = [*SIGNATURES]
    random.Random(4).shuffle(shuffled)
    monkeypatch.setattr(probes.likeness, "SIGNATURES", tuple(shuffled))
    monkeypatch.setattr(probes.engine, "SIGNATURES", tuple(shuffled))
    after = explain(Header({name: header.tensors[name] for name in names}, header.metadata))

    def told(explanation: Explanation) -> list[tuple[object, ...]]:
        return [
            (like.name, like.layout, like.share, [(r.evidence.rule, r.shared, r.extent) for r in like.refuted])
            for like in (*explanation.matched, *explanation.near)
        ]

    assert told(after) == told(before)
    assert re.sub(r"\S+_\S+", "", after.report.reason) == re.sub(
        r"\S+_\S+", "", before.report.reason
    )  # but for examples


def test_names_that_say_otherwise_are_told_as_overruled() -> None:
    hints = Hints(filename="flux.safetensors", card={"base_model": "stabilityai/stable-diffusion-xl-base-1.0"})
    explanation = explain(headers.load("lora-sd-1-kohya").header, hints)
    assert [(e.key, e.expected, e.seen) for e in explanation.overruled] == [
        ("card base_model", "sd-1", "stabilityai/stable-diffusion-xl-base-1.0"),
        ("file name", "sd-1", "flux.safetensors"),
    ]
    assert sentence(explanation.overruled[1]) == "file name says “flux.safetensors”, but the shapes are sd-1's"


def test_pickles_and_empty_files_have_nothing_to_compare() -> None:
    for header in (Header({}, format="torch_zip"), Header({})):
        assert explain(header) == Explanation(probe(header))


def test_a_path_is_explained_like_its_header(tmp_path: Path) -> None:
    fixture = headers.load("unet-ssd-1b-ldm")
    path = headers.write_sparse(tmp_path / "x.safetensors", fixture.tensors)
    explanation = explain(path)
    assert explanation.report.source == str(path)
    assert explanation.near == explain(fixture.header).near


# --- words ---


def all_evidence() -> set[Evidence]:
    """What every rule of every signature says of every fixture, and what reports add to it."""
    found: set[Evidence] = set()
    for name in headers.names():
        header = headers.load(name).header
        subject = Subject(header)
        report = probe(header, Hints(filename="lcm pony sdxl.safetensors"))
        found |= {evidence for evidence in report.evidence if not evidence.rule.startswith("not ")}
        found |= {evidence for trait in report.traits for evidence in trait.evidence}
        found |= {rule.check(subject) for signature in SIGNATURES for rule in signature.rules}
    return found


def test_every_rule_has_its_sentences() -> None:
    evidence = all_evidence()
    assert {e.rule for e in evidence} <= SENTENCES.keys()
    for piece in evidence:
        said = sentence(piece)
        assert said, piece
        assert not re.search(r"\bNone\b|  | $|^ |not not|\{", said), (said, piece)


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (Evidence("blocks", False, "joint_blocks", "24", "38"), "joint_blocks has 38 blocks, not 24"),
        (Evidence("blocks", False, "middle", "10", "0"), "middle has no blocks, not 10"),
        (Evidence("blocks", False, "middle", "0", "10"), "middle has 10 blocks, not none"),
        (
            Evidence("width", False, "img_in.weight", "64", "absent"),
            "img_in.weight is missing, which should be 64 wide",
        ),
        (Evidence("fits", False, "conv_in", "a layer of FLUX.1", "no such layer"), "conv_in is not a layer of FLUX.1"),
        (Evidence("fits", False, "to_q", "768 -> 320", "1024 -> 320"), "to_q is 1024 -> 320, not 768 -> 320"),
        (Evidence("claimed", False, None, "said to be kolors", "not said"), "it is not said to be kolors"),
        (Evidence("a new rule", False, "x", "1", "2"), "a new rule: x is 2, not 1"),
    ],
)
def test_evidence_in_words(evidence: Evidence, said: str) -> None:
    assert sentence(evidence) == said


def test_unknown_tensors_are_explained_without_likeness() -> None:
    explanation = explain(Header({"fc.weight": TensorSpec("F32", (10, 10))}))
    assert (explanation.matched, explanation.near, explanation.overruled) == ((), (), ())
