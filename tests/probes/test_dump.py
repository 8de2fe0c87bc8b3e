"""Header dumps: a model's header as a file that can be sent, probed and made a fixture, without what is private in it."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes import (
    Evidence,
    Folder,
    Header,
    Hints,
    Kind,
    Outcome,
    Report,
    TensorSpec,
    UnreadableModel,
    dump_header,
    explain,
    pack_dump,
    parse_dump,
    probe,
    read_folder,
    read_target,
)
from probes.claims import family_of
from probes.redaction import REDACTED, redacted_metadata, reduced
from probes.traits import ACCELERATIONS, TELLINGS
from tests.probes import headers

LCM = "lcm-lora-sdxl"


def through_a_dump(target: Header | Folder, hints: Hints | None = None, **options: Any) -> Report:
    """What is said of a dump, packed and read again."""
    dumped = parse_dump(pack_dump(dump_header(target, hints, **options)))
    assert dumped is not None
    return probe(*dumped)


def without_words(report: Report) -> Report:
    """But for what evidence quotes of a text, which is what redaction shortens."""
    return replace(
        report, evidence=tuple(replace(e, seen=None) if e.rule in ("tag", "claimed") else e for e in report.evidence)
    )


@pytest.mark.parametrize("name", headers.names())
def test_a_dump_is_judged_as_the_header_is(name: str) -> None:
    header = headers.load(name).header
    report = probe(header)
    assert without_words(through_a_dump(header)) == without_words(report)
    assert through_a_dump(header, keep_private=True) == report


@pytest.mark.parametrize("name", headers.names()[::10])
def test_a_dump_is_a_fixture_and_a_fixture_is_a_dump(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = headers.load(name)
    dumped = read_target(headers.FOLDER / f"{name}.json.gz")
    assert dumped == (fixture.header, Hints())
    document = dump_header(fixture.header, report=probe(fixture.header), made_by="here", keep_private=True)
    (tmp_path / "x.json.gz").write_bytes(pack_dump(document, compressed=True))
    monkeypatch.setattr(headers, "FOLDER", tmp_path)
    again = headers.load("x")
    assert (again.tensors, again.metadata, again.made_by) == (fixture.tensors, fixture.metadata, "here")
    seen = json.loads(json.dumps(probe(fixture.header).as_dict()))
    assert {"outcome": "identified", **again.expect}.items() <= seen.items()


def test_a_dump_on_disk_is_probed_like_the_model(tmp_path: Path) -> None:
    fixture = headers.load("single-file-sdxl")
    for path, compressed in ((tmp_path / "plain.json", False), (tmp_path / "packed", True)):
        path.write_bytes(pack_dump(dump_header(fixture.header), compressed))
        assert replace(probe(path), source=None) == probe(fixture.header)
        assert explain(path).near == explain(fixture.header).near


def test_gguf_keeps_its_format() -> None:
    header = Header(headers.load("flux-1-dev-bfl").header.tensors, {"general.architecture": "flux"}, "gguf")
    assert through_a_dump(header) == probe(header)
    assert probe(header).format == "gguf"


def test_a_folder_with_its_configurations(tmp_path: Path) -> None:
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "_name_or_path": "/home/zelda/model",
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    for part in ("unet", "scheduler"):
        (tmp_path / part).mkdir()
    (tmp_path / "scheduler/scheduler_config.json").write_text(
        json.dumps({"prediction_type": "v_prediction", "beta_end": 0.012})
    )
    headers.write_sparse(
        tmp_path / "unet/diffusion_pytorch_model.safetensors", headers.load("unet-sd-2-diffusers").tensors
    )
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", "DDIMScheduler"]}))
    folder = read_folder(tmp_path)
    assert probe(folder).prediction_type == "v_prediction"
    assert through_a_dump(folder) == probe(folder)
    assert b"zelda" not in pack_dump(dump_header(folder))


def test_a_peft_folder_keeps_the_base_that_breaks_its_tie() -> None:
    header = headers.load("lora-sd-1-self-attention").header
    folder = Folder(
        {"peft_type": "LORA", "base_model_name_or_path": "/home/zelda/stable-diffusion-v1-5"}, {}, {"": header}
    )
    assert through_a_dump(folder).family == probe(folder).family == "sd-1"
    assert b"zelda" not in pack_dump(dump_header(folder))


@pytest.mark.parametrize(
    ("name", "hints"),
    [
        (LCM, Hints(repo_id="zelda/my-lcm-lora")),
        (LCM, Hints(filename="zelda lcm v3.safetensors")),
        (LCM, Hints(card={"tags": ["lora", "lcm", "zelda"], "base_model": "zelda/sdxl-merge"})),
        (LCM, Hints(card_text="---\ntags: [x]\n---\n# Zelda's latent consistency LoRA\nFor Zelda.")),
        ("lora-sd-1-self-attention", Hints(sidecar={"baseModel": "SD 1.5", "notes": "by Zelda"})),
        ("lora-sd-1-self-attention", Hints(family="sd-2")),
        (LCM, Hints(filename="zelda.safetensors", kind="lcm_lora")),
    ],
)
def test_hints_go_along_by_the_words_that_count(name: str, hints: Hints) -> None:
    header = headers.load(name).header
    before = probe(header, hints)
    assert before.outcome is Outcome.IDENTIFIED
    after = through_a_dump(header, hints)
    assert (after.outcome, after.kind, after.family) == (before.outcome, before.kind, before.family)
    assert [(t.name, t.confidence) for t in after.traits] == [(t.name, t.confidence) for t in before.traits]
    assert b"zelda" not in pack_dump(dump_header(header, hints)).lower()


def test_a_card_and_a_file_name_that_are_no_text_can_be_dumped() -> None:
    hints = Hints(filename="\udc80lcm.safetensors", card={1: 1 << 80, "tags": ["lcm", 5], "when": object()})  # type: ignore[dict-item]
    for keep_private in (False, True):
        assert through_a_dump(headers.load(LCM).header, hints, keep_private=keep_private).kind is Kind.LCM_LORA


def test_the_callers_hints_stand_in_for_those_of_a_dump(tmp_path: Path) -> None:
    header = headers.load(LCM).header
    (tmp_path / "x").write_bytes(pack_dump(dump_header(header, Hints(repo_id="latent-consistency/lcm-lora-sdxl"))))
    assert probe(tmp_path / "x").kind is Kind.LCM_LORA
    assert probe(tmp_path / "x", Hints()).outcome is Outcome.AMBIGUOUS


def test_the_name_of_a_dump_is_no_hint(tmp_path: Path) -> None:
    (tmp_path / "lcm.json").write_bytes(pack_dump(dump_header(headers.load(LCM).header)))
    assert probe(tmp_path / "lcm.json").outcome is Outcome.AMBIGUOUS


def test_a_pickle_cannot_be_dumped() -> None:
    with pytest.raises(UnreadableModel, match="Convert it") as caught:
        dump_header(Header({}, format="torch_zip"))
    assert caught.value.code == "pickle"


# --- what is private ---

PRIVATE = {
    "ss_output_name": "zeldas_wedding_v2",
    "ss_training_comment": "trained on zelda's photos, ask zelda@example.com",
    "ss_tag_frequency": '{"10_ada lovelace": {"zelda lovelace": 40, "garden": 3}}',
    "ss_dataset_dirs": '{"10_ada lovelace": {"n_repeats": 10, "img_count": 40}}',
    "ss_sd_model_name": "C:\\Users\\zelda\\models\\base.safetensors",
    "ss_bucket_info": '{"buckets": {"0": {"path": "/home/zelda/img"}}}',
    "ss_session_id": "zelda-1234",
    "modelspec.title": "Zelda",
    "modelspec.author": "Zelda L.",
    "modelspec.description": "Zelda, as I know her",
    "modelspec.thumbnail": "data:image/jpeg;base64,emVsZGE=",
    "general.name": "Zelda",
    "anything.else": "zelda",
    "ss_network_module": "/home/zelda/networks/mine.py",
    "ss_network_args": '{"conv_dim": "8", "dir": "/home/zelda"}',
    "lora_adapter_metadata": '{"unet.r": 16, "unet.base_model_name_or_path": "/home/zelda/base"}',
}
TECHNICAL = {
    "format": "pt",
    "ss_base_model_version": "sdxl_base_v1-0",
    "ss_network_module": "lycoris.kohya",
    "ss_network_dim": "16",
    "ss_learning_rate": "1e-4",
    "ss_resolution": "(1024, 1024)",
    "ss_v2": "False",
    "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
    "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
    "modelspec.prediction_type": "v",
    "general.architecture": "flux",
}


def test_what_people_wrote_is_left_out_and_the_keys_stay() -> None:
    redacted = redacted_metadata(PRIVATE)
    assert redacted.keys() == PRIVATE.keys()
    assert "zelda" not in json.dumps(redacted).lower()
    assert redacted["ss_output_name"] == REDACTED
    assert json.loads(redacted["ss_network_args"]) == {"conv_dim": "8", "dir": REDACTED}
    assert json.loads(redacted["lora_adapter_metadata"])["unet.r"] == 16


def test_technical_values_stay() -> None:
    assert redacted_metadata(TECHNICAL) == TECHNICAL


def test_all_of_it_is_kept_when_asked_for() -> None:
    header = Header(headers.load("lora-sd-1-kohya").header.tensors, PRIVATE)
    assert dump_header(header, keep_private=True)["metadata"] == PRIVATE


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("My girlfriend Pony v3", "Pony"),
        ("zelda_lcm_sdxl", "lcm | sdxl"),
        ("/home/zelda/stable-diffusion-v1-5", "stable-diffusion-v1"),
        ("no such word", REDACTED),
        ("", ""),
    ],
)
def test_of_a_text_the_words_stay_that_a_probe_reads(text: str, kept: str) -> None:
    assert reduced(text) == kept


WORDS = [
    "SDXL",
    "sd 1.5",
    "sd-2",
    "pony",
    "flux",
    "lcm",
    "Lightning",
    "turbo",
    "hyper",
    "8steps",
    "with",
    "z-image",
    "xl",
    "stable-diffusion-v2-1",
    "kolors",
    "zelda",
    "x",
    "9",
    "tcd",
    "wan",
    "qwen",
    "qwen-image",
    "hidream",
]


@given(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(["", " ", "-", "_", "/", ".", " by "])), max_size=6))
def test_a_reduced_text_says_the_same_of_family_and_acceleration(parts: list[tuple[str, str]]) -> None:
    text = "".join(word + joint for word, joint in parts)
    assert family_of(reduced(text)) == family_of(text)
    for pattern in ACCELERATIONS.values():
        assert bool(pattern.search(reduced(text))) == bool(pattern.search(text))
    for pattern in TELLINGS.values():
        assert said(pattern, reduced(text)) == said(pattern, text)


def said(pattern: re.Pattern[str], text: str) -> set[tuple[bool, bool]]:
    """In which ways an acceleration is told of: as what a model goes with, as a base's name, plainly."""
    return {(hit["beside"] is not None, hit["base"] is not None) for hit in pattern.finditer(text)}


# --- what is no dump ---


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"weights": {}}',
        b"\x1f\x8b",
        b"\x1f\x8bnot gzip",
        gzip.compress(b"{}", mtime=0),
        gzip.compress(b"{}", mtime=0)[:-9],
        b"\xff",
    ],
)
def test_other_text_and_other_archives_are_no_dumps(data: bytes) -> None:
    assert parse_dump(data) is None


@pytest.mark.parametrize(
    "document",
    [
        {"tensors": []},
        {"tensors": {"x": "F16"}},
        {"tensors": {"x": ["F16", [1, -1]]}},
        {"tensors": {"x": ["F16", [True]]}},
        {"tensors": {"x": ["F16", [1.5]]}},
        {"tensors": {"x": ["F16", [1 << 63]]}},
        {"tensors": {"x": ["F16" * 9, [1]]}},
        {"tensors": {"x": ["F16", [1]]}, "metadata": {"a": 1}},
        {"tensors": {"x": ["F16", [1]]}, "metadata": "a"},
        {"tensors": {"x": ["F16", [1]]}, "format": 3},
        {"tensors": {"x": ["F16", [1]]}, "hints": {"repo_id": 3}},
        {"tensors": {"x": ["F16", [1]]}, "hints": {"card": []}},
        {"tensors": {"x": ["F16", [1]]}, "hints": {"family": 1}},
        {"tensors": {"x": ["F16", [1]]}, "hints": {"kind": "vae"}},
        {"components": []},
        {"components": {"unet": 3}},
        {"components": {}, "folder": {"pickles": "unet"}},
        {"components": {}, "folder": {"index": 1}},
    ],
    ids=lambda document: json.dumps(document)[:40],
)
def test_broken_dumps_are_refused(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UnreadableModel, match="header dump") as caught:
        probe(path)
    assert caught.value.code == "bad_dump"


def test_a_text_that_is_gone_before_it_is_read_as_a_dump_is_still_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dump.json"
    path.write_text('{"tensors": {}}')
    opened = Path.open

    def opening(path: Path, *how: object, **more: object) -> object:
        file = opened(path, *how, **more)  # type: ignore[call-overload]
        path.unlink()
        return file

    monkeypatch.setattr(Path, "open", opening)
    with pytest.raises(UnreadableModel) as caught:
        probe(path)
    assert caught.value.code == "text_file"


def test_a_text_that_is_no_dump_is_still_a_text(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"_class_name": "UNet2DConditionModel"}')
    with pytest.raises(UnreadableModel) as caught:
        probe(path)
    assert caught.value.code == "text_file"


def test_a_dump_is_bounded_in_what_it_unpacks_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.dump.HEADER_CAP", 1000)
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(b'{"tensors": {}, "x": "' + b" " * 5000 + b'"}'))
    with pytest.raises(UnreadableModel) as caught:
        probe(path)
    assert caught.value.code == "unsupported_format"


def test_more_tensors_than_any_model_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.dump.TENSOR_CAP", 1)
    with pytest.raises(UnreadableModel, match="more than 1 tensors"):
        parse_dump(b'{"tensors": {"a": ["F16", [1]], "b": ["F16", [1]]}}')


def test_evidence_survives_as_it_is() -> None:
    header = Header({"emb_params": TensorSpec("F16", (2, 768))})
    report = through_a_dump(header)
    assert report.kind is Kind.TEXTUAL_INVERSION
    assert all(isinstance(e, Evidence) for e in report.evidence)
