"""One file of a model that was saved in several is no model, whatever it holds: its name says only that, and shapes cannot tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from probes import Header, Hints, Outcome, explain, probe, scan_folder, sentence
from probes.containers.weight_names import part_of
from tests.probes import headers

PART = "diffusion_pytorch_model-00001-of-00003.safetensors"
WHOLE = "model-00001-of-00001.safetensors"


def half(name: str) -> Header:
    tensors = headers.load(name).header.tensors
    return Header(dict(list(tensors.items())[: len(tensors) // 2]))


@pytest.mark.parametrize("name", headers.names())
def test_no_fixture_is_a_model_where_it_is_called_a_part(name: str) -> None:
    for header in (headers.load(name).header, half(name)):
        report = probe(header, Hints(filename=PART))
        assert (report.outcome, report.kind, report.family) == (Outcome.UNUSABLE, None, None)


def test_it_says_what_says_so_and_what_to_do() -> None:
    report = probe(half("unet-sdxl-ldm"), Hints(filename=PART))
    assert "part 1 of 3" in report.reason
    assert "all parts and their index" in report.reason
    assert "give that folder" in report.reason
    assert [sentence(e) for e in report.evidence] == ["file name says “part 1 of 3”, which is not a whole model"]


def test_parts_of_gguf_are_to_be_joined() -> None:
    part = Header(headers.load("unet-sdxl-ldm").header.tensors, format="gguf")
    assert "llama-gguf-split --merge" in probe(part, Hints(filename="flux1-dev-00002-of-00002.gguf")).reason


def test_a_pickle_stays_one() -> None:
    assert "pickle" in probe(Header({}, format="torch_zip"), Hints(filename="pytorch_model-00001-of-00002.bin")).reason


@pytest.mark.parametrize(
    ("name", "hints", "outcome"),
    [
        (PART, None, Outcome.UNUSABLE),
        (PART, Hints(filename="my-sdxl.safetensors"), Outcome.IDENTIFIED),  # who says so knows better than the path
        ("my-sdxl.safetensors", None, Outcome.IDENTIFIED),
        (WHOLE, None, Outcome.IDENTIFIED),
    ],
)
def test_the_name_of_a_path_says_it_too(tmp_path: Path, name: str, hints: Hints | None, outcome: Outcome) -> None:
    path = headers.write_sparse(tmp_path / name, headers.load("unet-sdxl-ldm").tensors)
    assert probe(path, hints).outcome is outcome
    assert explain(path, hints).report == probe(path, hints)


def test_a_scan_finds_no_model_in_a_part(tmp_path: Path) -> None:
    for name in (PART, WHOLE):
        headers.write_sparse(tmp_path / name, headers.load("unet-sdxl-ldm").tensors)
    found = {Path(each.path).name: each.report.family for each in scan_folder(tmp_path)}
    assert found == {PART: None, WHOLE: "sdxl"}


@pytest.mark.parametrize("name", ["lora-sd-1-kohya", "lora-flux-kohya", "text-encoder-open-clip"])
def test_what_is_saved_in_one_part_is_whole(name: str) -> None:
    header = headers.load(name).header
    assert probe(header, Hints(filename=WHOLE)).outcome is Outcome.IDENTIFIED


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "ink-1-of-3.safetensors",  # a series of three LoRAs
        "ink-00004-of-00003.safetensors",
        "ink-00001-of-99999.safetensors",
        "ink-000001-of-000003.safetensors",
        "-00001-of-00003.safetensors",
    ],
)
def test_names_that_say_nothing_of_parts(name: str) -> None:
    assert part_of(name) is None
