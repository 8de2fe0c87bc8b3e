"""Stable Diffusion 3 and FLUX.1 draw what diffusers draws, and wear what it fuses."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from registry.backends import AdapterRef, BackendOptions, CheckpointRef, GenerationJob
from registry.backends.diffusers import DiffusersBackend
from registry.compatibility import checkpoint_tensors
from registry.errors import InvalidRequest, NotGenerable
from registry.holders import Holder
from registry.pipeline_config import PipelineConfig
from registry.weights.bundle import bundle_bytes
from registry.weights.files import Lent
from tests.registry.backends.test_families import differ, same, start_picture
from tests.registry.flow import PIPELINES, build, write_single

LAYERS = r"to_q|to_k|to_v|to_out\.0|add_k_proj|ff\.net\.2|proj_mlp|norm1\.linear"


@pytest.fixture(scope="module")
def backend() -> DiffusersBackend:
    return DiffusersBackend(BackendOptions(device="cpu", budget_bytes=2**30))


@pytest.fixture(scope="module", params=PIPELINES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(request.param, tmp_path_factory.mktemp("flow") / request.param)


def job_for(folder: Path, **changes: Any) -> GenerationJob:
    config = PipelineConfig.from_folder(folder)
    assert config.scheduler == "euler"
    checkpoint = CheckpointRef(folder, str(folder), config)
    job = GenerationJob(checkpoint, "a red circle", "euler", steps=3, cfg=4.0, seed=7, width=32, height=16)
    return replace(job, **changes)


def by_diffusers(job: GenerationJob, lora: AdapterRef | None = None) -> Image.Image:
    import diffusers

    logging.getLogger("diffusers").setLevel(logging.ERROR)
    name = job.checkpoint.config.pipeline
    made_by = getattr(diffusers, name if job.image is None else name.replace("Pipeline", "Img2ImgPipeline"))
    index = json.loads((job.checkpoint.path / "model_index.json").read_text())
    lacking = {part: None for part, made_of in index.items() if part.endswith("_3") and made_of == [None, None]}
    pipe = made_by.from_pretrained(job.checkpoint.path, local_files_only=True, **lacking)
    pipe.set_progress_bar_config(disable=True)
    if lora:
        pipe.load_lora_weights(lora.path.parent, weight_name=lora.path.name)
        pipe.fuse_lora(components=["transformer"], lora_scale=lora.weight)
    more: dict[str, Any] = {} if job.image is None else {"image": job.image, "strength": job.strength}
    if name != "FluxPipeline":
        more["negative_prompt"] = job.negative_prompt or None
    made = pipe(
        job.prompt,
        num_inference_steps=job.steps,
        guidance_scale=job.cfg,
        width=job.width,
        height=job.height,
        generator=torch.Generator().manual_seed(job.seed),
        **more,
    )
    return made.images[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "changes",
    [{}, {"cfg": 1.0}, {"negative_prompt": "blue"}, {"image": start_picture(32, 16), "strength": 0.7}],
    ids=["prompt", "no guidance", "negative", "picture"],
)
def test_it_is_diffusers_picture(folder: Path, backend: DiffusersBackend, changes: dict[str, Any]) -> None:
    job = job_for(folder, **changes)
    assert differ(backend.generate(job).images[0], by_diffusers(job)) <= 1


def test_the_guidance_shows(folder: Path, backend: DiffusersBackend) -> None:
    """FLUX.1's is an input of its network."""
    assert not same(backend.generate(job_for(folder)), backend.generate(job_for(folder, cfg=9.0)))


def test_pictures_of_one_pass_are_those_of_their_seeds_and_every_step_can_be_seen(
    folder: Path, backend: DiffusersBackend
) -> None:
    seen: list[tuple[Image.Image, ...]] = []
    together = backend.generate(job_for(folder, n=2), lambda step: seen.append(step.preview()))
    assert differ(together.images[1], backend.generate(job_for(folder, seed=8)).images[0]) <= 1
    assert [[image.size for image in images] for images in seen] == [[(16, 8)] * 2] * 3


def test_an_adapter_is_worn_as_diffusers_fuses_it(folder: Path, backend: DiffusersBackend, tmp_path: Path) -> None:
    job = job_for(folder)
    plain = backend.generate(job)
    lora = _adapter(folder, tmp_path / "lora.safetensors")
    worn = backend.generate(replace(job, adapters=(lora,)))
    assert differ(worn.images[0], by_diffusers(job, lora)) <= 1
    assert not same(worn, plain)
    assert same(backend.generate(job), plain)


def _adapter(folder: Path, path: Path) -> AdapterRef:
    """Rank 2, on every layer that LAYERS names."""
    torch.manual_seed(3)
    tensors = {}
    for name, spec in checkpoint_tensors(folder).items():
        module = name.removesuffix(".weight")
        if name.endswith(".weight") and len(spec.shape) == 2 and re.search(rf"^transformer\..*\.({LAYERS})$", module):
            tensors[f"{module}.lora_A.weight"] = torch.randn(2, spec.shape[1]) * 0.2
            tensors[f"{module}.lora_B.weight"] = torch.randn(spec.shape[0], 2) * 0.2
    save_file(tensors, path)
    return AdapterRef(path, str(path), 0.6, "lora")


@pytest.mark.parametrize("managed", [True, False])
def test_a_single_file_gives_the_folder_s_picture(
    folder: Path, backend: DiffusersBackend, tmp_path: Path, managed: bool
) -> None:
    """With a LoRA and without. Fused projections are views of the file where it is mapped."""
    single = write_single(folder.name, folder, tmp_path / "single.safetensors")
    config = PipelineConfig.from_folder(folder).lent_to(checkpoint_tensors(single))
    assert config is not None
    job = job_for(folder)
    alone = replace(job, checkpoint=CheckpointRef(single, str(single), config, managed=managed))
    for worn in ((), (_adapter(folder, tmp_path / "lora.safetensors"),)):
        made = backend.generate(replace(alone, adapters=worn))
        assert same(made, backend.generate(replace(job, adapters=worn)))
    assert not same(made, backend.generate(job))


def test_a_single_file_of_sd_3_runs_without_t5(backend: DiffusersBackend, tmp_path: Path) -> None:
    """The folder that lends its configuration has it."""
    whole = build("sd-3", tmp_path / "whole")
    single = write_single("sd-3", whole, tmp_path / "single.safetensors", leave_out=("text_encoders.t5xxl.",))
    config = PipelineConfig.from_folder(whole).lent_to(checkpoint_tensors(single))
    assert config is not None
    job = replace(job_for(whole), checkpoint=CheckpointRef(single, "without", config))
    without = build("sd-3", tmp_path / "without", t5=False)
    assert differ(backend.generate(job).images[0], by_diffusers(job_for(without))) <= 1


def test_what_cannot_be_run_is_said(folder: Path, backend: DiffusersBackend) -> None:
    with pytest.raises(InvalidRequest, match="multiple of 8"):
        backend.generate(job_for(folder, width=20))
    with pytest.raises(InvalidRequest, match="does not run flow-matching checkpoints; euler, heun, lcm do"):
        backend.generate(job_for(folder, scheduler="ddim"))
    for scheduler in ("heun", "lcm"):
        if folder.name == "flux-1" and scheduler == "heun":
            with pytest.raises(InvalidRequest, match="noise levels"):
                backend.generate(job_for(folder, scheduler=scheduler))
        else:
            assert backend.generate(job_for(folder, scheduler=scheduler)).images


def test_sd_3_runs_without_t5(backend: DiffusersBackend, tmp_path: Path) -> None:
    job = job_for(build("sd-3", tmp_path / "sd-3", t5=False))
    assert differ(backend.generate(job).images[0], by_diffusers(job)) <= 1


def test_in_float16_t5_keeps_in_float32_what_its_class_keeps_so(tmp_path: Path) -> None:
    """Whose products overflow in float16. A LoRA on them is put on in float32, too."""
    from transformers import T5EncoderModel

    folder = build("flux-1", tmp_path / "flux-1")
    half = DiffusersBackend(BackendOptions(device="cpu", dtype="float16", budget_bytes=2**30))
    job = job_for(folder)
    plain = half.generate(job)
    with half._pipeline(job.checkpoint, Holder("a test")) as pipeline:
        bundle, t5 = pipeline.bundle, pipeline.modules["text_encoder_2"]
        in_float32 = {name for name, tensor in bundle.tensors.items() if tensor.dtype == torch.float32}
        assert in_float32 == {name for name in bundle.tensors if name.endswith("DenseReluDense.wo.weight")} != set()
        theirs: Any = T5EncoderModel.from_pretrained(folder / "text_encoder_2", dtype=torch.float16)
        tokens = torch.tensor([[5, 9, 3, 1]])
        with torch.inference_mode():
            assert torch.equal(t5(tokens).last_hidden_state, theirs(tokens).last_hidden_state)
        assert bundle.nbytes == bundle_bytes(
            folder, torch.float16, pipeline.kind.precise(torch.float16)
        ) == half.residents().tiers[0].used  # fmt: skip
        wo = "encoder.block.0.layer.1.DenseReluDense.wo"
        lora = {
            f"text_encoder_2.{wo}.lora_A.weight": torch.randn(2, 32),
            f"text_encoder_2.{wo}.lora_B.weight": torch.randn(48, 2),
        }
        save_file(lora, tmp_path / "lora.safetensors")
        worn = half.generate(replace(job, adapters=(AdapterRef(tmp_path / "lora.safetensors", "lora", 0.5, "lora"),)))
        up, down = (lora[f"text_encoder_2.{wo}.lora_{part}.weight"] for part in "BA")
        base = bundle.tensors[f"text_encoder_2.{wo}.weight"]
        torch.testing.assert_close(t5.get_parameter(f"{wo}.weight").data, base + 0.5 * up @ down)
    assert not same(worn, plain)
    assert same(half.generate(job), plain)


def test_a_prompt_that_t5_reads_whole_is_not_called_cut(folder: Path, backend: DiffusersBackend) -> None:
    assert backend.generate(job_for(folder, prompt="a b c d e f g h i j k l m n o p q r s t")).warnings == ()
    (warning,) = backend.generate(job_for(folder, prompt="a b " * 300)).warnings
    assert "tokens, of which" in warning


def test_flux_that_fills_masks_is_refused(backend: DiffusersBackend, tmp_path: Path) -> None:
    job = job_for(build("flux-1", tmp_path / "fill", in_channels=24, out_channels=16))
    with pytest.raises(NotGenerable, match="24 channels, the VAE gives 16"):
        backend.generate(job)


@pytest.mark.parametrize("lender", ["folder", "single file"])
def test_a_file_of_the_transformer_alone_gives_the_picture_of_what_it_borrows_from(
    folder: Path, backend: DiffusersBackend, tmp_path: Path, lender: str
) -> None:
    """And neither the lender's transformer nor one borrower's memory is another's."""
    whole = write_single(folder.name, folder, tmp_path / "whole.safetensors")
    alone = write_single(folder.name, folder, tmp_path / "alone.safetensors", leave_out=("text_", "first_stage"))
    components = frozenset(name.partition(".")[0] for name in checkpoint_tensors(whole)) - {"transformer"}
    path = folder if lender == "folder" else whole
    lent = Lent("7", "lender", path, f"{path}", components)
    assert {name.partition(".")[0] for name in checkpoint_tensors(alone)} == {"transformer"}
    config = PipelineConfig.from_folder(folder).lent_to(checkpoint_tensors(alone, (lent,)))
    assert config is not None
    job = job_for(folder)
    borrowing = replace(job, checkpoint=CheckpointRef(alone, str(alone), config, lent=(lent,)))
    made = backend.generate(borrowing)
    assert same(made, backend.generate(job))
    used = sum(r.nbytes for r in backend.residents().models if r.digest == str(alone))
    assert used == bundle_bytes(alone, torch.float32, lent=(lent,))
    other = load_file(alone)
    save_file({name: tensor * 1.5 for name, tensor in other.items()}, tmp_path / "other.safetensors")
    different = replace(
        borrowing, checkpoint=replace(borrowing.checkpoint, path=tmp_path / "other.safetensors", digest="other")
    )
    assert not same(backend.generate(different), made)
    backend.evict(str(alone))
    assert str(alone) not in {r.digest for r in backend.residents().models}
