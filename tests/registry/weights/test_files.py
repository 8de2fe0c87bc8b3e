"""Which files of a diffusers folder are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry.errors import FileMissing, NotGenerable, UnusableFile
from registry.weights.files import WeightFile, weight_files


def _touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_one_file_is_a_single_file_checkpoint(tmp_path):
    _touch(tmp_path, "model.safetensors")
    assert weight_files(tmp_path / "model.safetensors") == (WeightFile(None, tmp_path / "model.safetensors"),)


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        (
            ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"],
            ["diffusion_pytorch_model.safetensors"],
        ),
        (["diffusion_pytorch_model.fp16.safetensors"], ["diffusion_pytorch_model.fp16.safetensors"]),
        (
            ["diffusion_pytorch_model.non_ema.safetensors", "diffusion_pytorch_model.safetensors"],
            ["diffusion_pytorch_model.safetensors"],
        ),
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
    ],
)
def test_the_unmarked_file_wins_over_variants(tmp_path, present, chosen):
    _touch(tmp_path / "unet", *present)
    assert [file.path.name for file in weight_files(tmp_path)] == chosen


def test_shards_are_those_of_the_index(tmp_path):
    _touch(tmp_path / "unet", "a.safetensors", "b.safetensors", "stray.safetensors")
    index = {"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert [file.path.name for file in weight_files(tmp_path)] == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize(
    "index", ["{", "[]", "{}", '{"weight_map": {"x": "../../secret.safetensors"}}', '{"weight_map": {"x": 1}}']
)
def test_an_index_that_lies_is_refused(tmp_path, index):
    _touch(tmp_path / "unet", "a.safetensors")
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(index)
    with pytest.raises(UnusableFile):
        weight_files(tmp_path)


def test_components_that_are_not_run_are_not_read(tmp_path):
    _touch(tmp_path / "unet", "diffusion_pytorch_model.safetensors")
    _touch(tmp_path / "safety_checker", "model.safetensors")
    assert [file.component for file in weight_files(tmp_path)] == ["unet"]


def test_nothing_there(tmp_path):
    with pytest.raises(FileMissing):
        weight_files(tmp_path / "gone")
    with pytest.raises(NotGenerable, match="none of the folders"):
        weight_files(tmp_path)
    _touch(tmp_path / "unet", "diffusion_pytorch_model.bin")
    with pytest.raises(NotGenerable, match="pickled"):
        weight_files(tmp_path)
