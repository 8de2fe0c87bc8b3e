"""The JSON of a diffusers folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from probes import TensorSpec
from registry.compatibility import checkpoint_tensors
from registry.errors import FileMissing, NotGenerable, UnusableFile
from registry.pipeline_config import PipelineConfig
from tests.registry.tiny import Tiny


@pytest.fixture
def folder(tiny: Tiny, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.folder, tmp_path / "copy"))


def _edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_native_size_is_the_latent_size_times_the_vae_factor(folder):
    assert PipelineConfig.from_folder(folder).native_size == (16, 16)
    _edit(folder / "unet" / "config.json", sample_size=[4, 12])  # height, width
    assert PipelineConfig.from_folder(folder).native_size == (24, 8)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"_class_name": "PNDMScheduler"}, "pndm"),
        ({"_class_name": "DDIMScheduler"}, "ddim"),
        ({"_class_name": "DPMSolverMultistepScheduler"}, "dpmpp_2m"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}, "dpmpp_2m_karras"),
        ({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}, "euler_karras"),
        ({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}, "dpmpp_2m_sde"),
        ({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver"}, None),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "euler"),
        ({"_class_name": "StrangeScheduler"}, None),
    ],
)
def test_the_scheduler_that_it_came_with(folder, config, name):
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    assert PipelineConfig.from_folder(folder).scheduler == name


def test_a_single_file_of_the_same_shapes_fits(tiny: Tiny):
    config = PipelineConfig.from_folder(tiny.folder)
    tensors = dict(checkpoint_tensors(tiny.single))
    assert config.lent_to(tensors)
    half = {name: TensorSpec("F16", spec.shape) for name, spec in tensors.items()}
    assert config.lent_to(half)
    name = next(iter(tensors))
    assert not config.lent_to({**tensors, name: TensorSpec("F32", (1,))})
    assert not config.lent_to({key: spec for key, spec in tensors.items() if key != name})


@pytest.mark.parametrize(
    "missing", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "tokenizer"]
)
def test_a_missing_part_is_named(folder, missing):
    path = folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileMissing, match=path.name):
        PipelineConfig.from_folder(folder)


def test_broken_json(folder):
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(UnusableFile, match=r"unet/config\.json"):
        PipelineConfig.from_folder(folder)
    (folder / "unet" / "config.json").write_text("[]")
    with pytest.raises(UnusableFile, match="JSON object"):
        PipelineConfig.from_folder(folder)


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**8}),
        ("unet/config.json", {"layers_per_block": 10**7}),
        ("unet/config.json", {"sample_size": 100_000}),
        ("unet/config.json", {"sample_size": "64"}),
        ("unet/config.json", {"transformer_layers_per_block": [1, [10**7]]}),
        ("vae/config.json", {"block_out_channels": [64] * 1000}),
        ("vae/config.json", {"latent_channels": -4}),
        ("text_encoder/config.json", {"num_hidden_layers": 1e9}),
    ],
)
def test_numbers_that_no_model_has_are_refused_before_anything_is_built_by_them(folder, file, fields):
    _edit(folder / file, **fields)
    with pytest.raises(UnusableFile, match=next(iter(fields))):
        PipelineConfig.from_folder(folder)


def test_another_pipeline_cannot_be_run(folder):
    _edit(folder / "model_index.json", _class_name="KandinskyV22Pipeline")
    with pytest.raises(NotGenerable, match="KandinskyV22Pipeline"):
        PipelineConfig.from_folder(folder)
