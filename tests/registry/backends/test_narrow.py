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
from registry.compatibility import checkpoint_tensors
from registry.holders import Holder
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
    with backend._pipeline(narrow.checkpoint, Holder("a test")) as pipeline:
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
    with backend._pipeline(narrow.checkpoint, Holder("a test")) as pipeline:
        beside = pipeline.wearer.nbytes
    assert resident.nbytes - beside == bundle_bytes(narrow.checkpoint.path, backend.dtype) < 0.7 * half
    assert 0 < beside < 4 * LCM.stat().st_size  # factors, which are in half precision there


@pytest.mark.parametrize("names", [("scale_weight", "scaled_fp8"), ("weight_scale", "comfy_quant")], ids="/".join)
def test_a_scaled_single_file_gives_the_picture_of_its_values(
    backend: DiffusersBackend, tiny: Tiny, jobs, tmp_path: Path, names: tuple[str, str]
):
    """As ComfyUI writes them: each matrix fills float8's range, with the number beside it that brings it back."""
    scale_name, marker = names
    scaled: dict[str, Tensor] = {marker: torch.zeros(2, dtype=torch.float8_e4m3fn)}
    if marker == "comfy_quant":
        scaled = {"model.diffusion_model.out.2.comfy_quant": torch.zeros(9, dtype=torch.uint8)}
    plain = {}
    for name, tensor in ldm_layout(tiny.tensors).items():
        if tensor.dim() < 2 or not name.endswith(".weight") or name.startswith("first_stage_model."):
            scaled[name] = plain[name] = tensor
            continue
        scale = tensor.abs().max() / 448
        scaled[name] = (tensor / scale).to(torch.float8_e4m3fn)
        plain[name] = scaled[name].float() * scale
        stem = name.removesuffix("weight")
        scaled |= {f"{stem}{scale_name}": scale, f"{stem}scale_input": torch.tensor(1.0)}
    save_file(scaled, tmp_path / "scaled.safetensors")
    save_file(plain, tmp_path / "plain.safetensors")
    save_file(lora(tiny.tensors, EVERYTHING, layout="kohya", seed=2), tmp_path / "lora.safetensors")
    config = PipelineConfig.from_folder(tiny.folder)
    assert config.lent_to(checkpoint_tensors(tmp_path / "scaled.safetensors"))
    for worn in ((), (AdapterRef(tmp_path / "lora.safetensors", f"{tmp_path} lora", 0.8, "lora"),)):
        made, expected = (
            backend.generate(
                replace(
                    jobs[0],
                    checkpoint=CheckpointRef(tmp_path / f"{kind}.safetensors", f"{tmp_path} {kind}", config),
                    adapters=worn,
                    prompt="a",
                    width=16,
                    height=16,
                )
            )
            for kind in ("scaled", "plain")
        )
        assert _differ(made, expected) <= (1 if worn else 0)


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
