"""A checkpoint of float8, as published ones are: half of float16's memory, and the pictures of the same values widened when loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import ImageChops
from PIL.Image import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from registry.backends import AdapterRef, BackendOptions, CheckpointRef, GenerationJob
from registry.backends.diffusers import DiffusersBackend
from registry.pipeline_config import PipelineConfig
from registry.weights.bundle import bundle_bytes
from tests.conftest import STARTER
from tests.registry.tiny import EVERYTHING, Tiny, ldm_layout, lora

FOLDER = STARTER / "modelshelf"
OUTLINE = FOLDER / "starter-outline-lora" / "pytorch_lora_weights.safetensors"
LCM = FOLDER / "starter-lcm-lora" / "pytorch_lora_weights.safetensors"
SETS = {
    "none": (),
    "one": (AdapterRef(OUTLINE, "outline", 0.75, "outline"),),
    "lcm": (AdapterRef(LCM, "lcm", 1.0, "lcm"),),
}

Change = Callable[[Tensor], Tensor]


def _starter(folder: Path, change: Change) -> Path:
    """The starter's base with each matrix, convolution and embedding of UNet and text encoder changed."""
    shutil.copytree(FOLDER / "starter-base", folder, ignore=shutil.ignore_patterns("starter-base.safetensors"))
    for path in (folder / "unet/diffusion_pytorch_model.safetensors", folder / "text_encoder/model.safetensors"):
        tensors: Mapping[str, Tensor] = load_file(path)
        save_file({name: change(t) if t.dim() > 1 else t for name, t in tensors.items()}, path)
    return folder


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> tuple[GenerationJob, GenerationJob]:
    """The same on float8, and on a float16 file of the same values."""
    root = tmp_path_factory.mktemp("narrow")
    folders = {
        "narrow": _starter(root / "narrow", lambda t: t.to(torch.float8_e4m3fn)),
        "wide": _starter(root / "wide", lambda t: t.to(torch.float8_e4m3fn).half()),
    }
    narrow, wide = (
        GenerationJob(
            CheckpointRef(folder, name, PipelineConfig.from_folder(folder)),
            "a red circle on a blue background",
            "lcm",
            steps=4,
            cfg=1.0,
            seed=7,
            width=64,
            height=64,
        )
        for name, folder in folders.items()
    )
    return narrow, wide


@pytest.fixture(scope="module")
def backend() -> DiffusersBackend:
    return DiffusersBackend(BackendOptions(device="cpu", budget_bytes=2**30))


def _differ(a, b) -> int:
    """The largest difference of any channel, 0..255."""
    return max(high for _, high in ImageChops.difference(a.images[0], b.images[0]).getextrema())


@pytest.mark.parametrize("name", SETS)
def test_the_picture_is_the_widened_one_s(backend: DiffusersBackend, jobs, name):
    narrow, wide = (replace(job, adapters=SETS[name]) for job in jobs)
    with backend._pipeline(narrow.checkpoint, "a test") as pipeline:
        before = pipeline.bundle.fingerprint()
        made = backend.generate(narrow)
        assert made.warnings == ()
        assert _differ(made, backend.generate(wide)) <= (2 if name != "none" else 0)
        assert (_differ(made, backend.generate(jobs[0])) > 20) == (name != "none")
        assert pipeline.bundle.fingerprint() == before


def test_what_it_takes_is_what_the_file_has(backend: DiffusersBackend, jobs):
    """LoRAs on it take no overlay: patched, it would be as large as widened."""
    narrow, wide = jobs
    half = bundle_bytes(wide.checkpoint.path, torch.float16)
    assert bundle_bytes(narrow.checkpoint.path, torch.float16) < 0.56 * half
    backend.generate(replace(narrow, adapters=SETS["lcm"]))
    (resident,) = (r for r in backend.residents().models if r.digest == "narrow")
    assert resident.nbytes == bundle_bytes(narrow.checkpoint.path, backend.dtype) < 0.7 * half


def test_image_to_image_and_previews(backend: DiffusersBackend, jobs):
    """What else asks the modules in what they compute."""
    narrow, wide = (replace(job, adapters=SETS["lcm"]) for job in jobs)
    start = backend.generate(narrow).images[0]
    previews: list[Image] = []
    made = backend.generate(replace(narrow, image=start, strength=0.5), lambda step: previews.extend(step.preview()))
    assert len(previews) == 2
    assert _differ(made, backend.generate(replace(wide, image=start, strength=0.5))) <= 2


@pytest.fixture
def compiled() -> Iterator[DiffusersBackend]:
    skips = torch._dynamo.config.skip_nnmodule_hook_guards
    yield DiffusersBackend(BackendOptions(device="cpu", budget_bytes=2**30, compile="aot_eager"))
    torch._dynamo.config.skip_nnmodule_hook_guards = skips
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_compiled_denoiser_reads_narrow_weights(
    tiny: Tiny, backend: DiffusersBackend, compiled: DiffusersBackend, jobs, tmp_path
):
    narrow = {name: t.to(torch.float8_e5m2) if t.dim() > 1 else t for name, t in ldm_layout(tiny.tensors).items()}
    save_file(narrow, tmp_path / "narrow.safetensors")
    save_file(lora(tiny.tensors, EVERYTHING, layout="kohya", seed=2), tmp_path / "lora.safetensors")
    checkpoint = CheckpointRef(tmp_path / "narrow.safetensors", "tiny", PipelineConfig.from_folder(tiny.folder))
    job = replace(jobs[0], checkpoint=checkpoint, prompt="a", width=16, height=16)
    worn = (AdapterRef(tmp_path / "lora.safetensors", "lora", 0.8, "lora"),)
    for adapters in ((), worn):
        job = replace(job, adapters=adapters)
        assert _differ(compiled.generate(job), backend.generate(job)) <= 1
