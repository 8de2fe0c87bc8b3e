"""Every family draws what diffusers draws, as a folder and as one file, from a prompt and from a picture."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops

from probes import read_header
from probes.families import unet as published
from registry.backends import BackendOptions, CheckpointRef, Generated, GenerationJob
from registry.backends.diffusers import DiffusersBackend
from registry.backends.diffusers.clip import clip_tokenizer, vocabulary
from registry.backends.diffusers.families import KINDS
from registry.compatibility import checkpoint_tensors
from registry.errors import InvalidRequest, NotGenerable
from registry.family_configs import CLIP_TOKENS, FAMILY_CONFIGS, ZERO_SNR, config_of_family
from registry.holders import Holder
from registry.pipeline_config import LAYOUTS, PipelineConfig
from tests.registry.families import PIPELINES, TinyFamily, build

NUMPY_COPY = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
"""numpy's conversion of torch tensors inside diffusers' Euler scheduler, which is SDXL's."""
pytestmark = NUMPY_COPY
FAMILIES = tuple(PIPELINES)


@pytest.fixture(scope="module")
def backend() -> DiffusersBackend:
    return DiffusersBackend(BackendOptions(device="cpu", budget_bytes=2**30))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyFamily:
    # the 768 model of sd-2 predicts v, and was trained to zero terminal SNR here, which the published one was not
    v = {"prediction_type": "v_prediction", **ZERO_SNR} if request.param == "sd-2" else {}
    return build(request.param, tmp_path_factory.mktemp(request.param), **v)


@pytest.fixture
def job(family: TinyFamily) -> GenerationJob:
    config = PipelineConfig.from_folder(family.folder)
    scheduler = config.scheduler
    assert scheduler is not None
    checkpoint = CheckpointRef(family.folder, family.name, config)
    return GenerationJob(
        checkpoint, "a red circle", scheduler, steps=4, cfg=5.0, seed=7, width=24, height=16, negative_prompt="blue"
    )


def by_diffusers(family: TinyFamily, job: GenerationJob) -> Image.Image:
    import diffusers

    logging.getLogger("diffusers").setLevel(logging.ERROR)
    name = PIPELINES[family.name]
    pipe = getattr(
        diffusers, name if job.image is None else name.replace("Pipeline", "Img2ImgPipeline")
    ).from_pretrained(family.folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    size: dict[str, Any] = {"width": job.width, "height": job.height}
    made = pipe(
        job.prompt,
        negative_prompt=job.negative_prompt or None,
        num_inference_steps=job.steps,
        guidance_scale=job.cfg,
        generator=torch.Generator().manual_seed(job.seed),
        **(size if job.image is None else {"image": job.image, "strength": job.strength}),
    )
    return made.images[0]  # type: ignore[no-any-return]


def differ(a: Image.Image, b: Image.Image) -> int:
    """The largest difference of any channel, 0..255."""
    assert a.size == b.size
    return max(high for _, high in ImageChops.difference(a, b).getextrema())


def same(a: Generated, b: Generated) -> bool:
    return [image.tobytes() for image in a.images] == [image.tobytes() for image in b.images]


def start_picture(width: int = 24, height: int = 16) -> Image.Image:
    return Image.radial_gradient("L").resize((width, height)).convert("RGB")


@pytest.mark.parametrize("changes", [{}, {"cfg": 1.0, "negative_prompt": ""}])
def test_a_prompt_gives_diffusers_picture(
    family: TinyFamily, backend: DiffusersBackend, job: GenerationJob, changes: Any
) -> None:
    wanted = replace(job, **changes)
    assert differ(backend.generate(wanted).images[0], by_diffusers(family, wanted)) <= 1


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_picture_gives_diffusers_picture(
    family: TinyFamily, backend: DiffusersBackend, job: GenerationJob, strength: float
) -> None:
    wanted = replace(job, image=start_picture(), strength=strength)
    assert differ(backend.generate(wanted).images[0], by_diffusers(family, wanted)) <= 1


def test_one_file_without_a_folder_gives_the_folder_s_picture(
    family: TinyFamily, backend: DiffusersBackend, job: GenerationJob
) -> None:
    tensors = checkpoint_tensors(family.single)
    config = config_of_family(family.name, tensors, None, table=family.table)
    assert config is not None
    single = replace(job, checkpoint=CheckpointRef(family.single, f"{family.name} single", config))
    assert same(backend.generate(single), backend.generate(job))


def test_pictures_of_one_pass_are_those_of_their_seeds(
    family: TinyFamily, backend: DiffusersBackend, job: GenerationJob
) -> None:
    together = backend.generate(replace(job, n=3))
    alone = [backend.generate(replace(job, seed=seed)).images[0] for seed in together.seeds]
    assert together.seeds == (7, 8, 9)
    assert all(differ(*pair) <= 1 for pair in zip(together.images, alone, strict=True))
    assert same(backend.generate(replace(job, n=3)), together)


def test_pictures_from_a_picture_differ_by_their_seeds(
    family: TinyFamily, backend: DiffusersBackend, job: GenerationJob
) -> None:
    wanted = replace(job, image=start_picture(30, 20), strength=0.5)
    made = backend.generate(replace(wanted, n=2))
    assert made.images[0].size == (24, 16)  # resized to what is asked for
    assert differ(*made.images) > 1
    assert differ(made.images[1], backend.generate(replace(wanted, seed=8)).images[0]) <= 1
    with pytest.raises(InvalidRequest, match="none of 4 steps would run"):
        backend.generate(replace(wanted, strength=0.2))


def test_every_step_can_be_looked_at(family: TinyFamily, backend: DiffusersBackend, job: GenerationJob) -> None:
    seen: list[tuple[Image.Image, ...]] = []
    made = backend.generate(replace(job, n=2), lambda step: seen.append(step.preview()))
    assert len(seen) >= 4  # PNDM takes one step twice
    assert {len(images) for images in seen} == {2}
    scale = job.checkpoint.config.vae_scale
    assert {image.size for images in seen for image in images} == {(24 // scale, 16 // scale)}
    assert same(made, backend.generate(replace(job, n=2)))  # looking changes nothing


def test_a_prompt_that_is_cut_is_said(backend: DiffusersBackend, job: GenerationJob) -> None:
    assert backend.generate(job).warnings == ()
    warnings = backend.generate(replace(job, prompt="abcdefghijklmnopqrst")).warnings
    assert len(warnings) == 1
    assert "20 tokens, of which 14 are read; not seen: “opqrst" in warnings[0]


def test_where_memory_is_short_fewer_pictures_go_in_one_pass(
    backend: DiffusersBackend, job: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = backend.generate(replace(job, n=4))
    with backend._pipeline(job.checkpoint, Holder("a test")) as pipeline:
        real, sizes = pipeline.decode, []

    def decode(latents: torch.Tensor) -> torch.Tensor:
        sizes.append(len(latents))
        if len(latents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(latents)

    monkeypatch.setattr(pipeline, "decode", decode)
    made = backend.generate(replace(job, n=4))
    assert sizes == [4, 2, 1, 1, 1, 1]
    assert all(differ(*pair) <= 1 for pair in zip(made.images, whole.images, strict=True))


# --- the tables ---------------------------------------------------------------------------------------------------------

PARAMETERS = {
    ("sd-1", "unet"): 859_520_964,
    ("sd-1", "vae"): 83_653_863,
    ("sd-1", "text_encoder"): 123_060_480,
    ("sd-2", "unet"): 865_910_724,
    ("sd-2", "text_encoder"): 340_387_840,
    ("sdxl", "unet"): 2_567_463_684,
    ("sdxl", "text_encoder_2"): 694_659_840,
}
"""As published; bigG with its projection."""


@pytest.mark.parametrize(("family", "component"), PARAMETERS)
def test_the_family_table_makes_the_published_networks(family: str, component: str) -> None:
    entry = FAMILY_CONFIGS[family]
    with torch.device("meta"):
        module = KINDS[entry.pipeline].parts[component](entry.components[component])
    assert sum(parameter.numel() for parameter in module.parameters()) == PARAMETERS[family, component]


@pytest.mark.parametrize(
    ("family", "network"), [("sd-1", published.SD1), ("sd-2", published.SD2), ("sdxl", published.SDXL)]
)
def test_the_family_table_s_unet_is_the_one_that_probes_know(family: str, network: published.UNet) -> None:
    entry = FAMILY_CONFIGS[family]
    with torch.device("meta"):
        weights = KINDS[entry.pipeline].parts["unet"](entry.components["unet"]).state_dict()
    layers = {
        name.removesuffix(".weight").replace(".", "_"): (tensor.shape[1], tensor.shape[0])
        for name, tensor in weights.items()
        if name.endswith(".weight") and tensor.dim() > 1
    }
    assert layers == network.namings[0]


def test_every_layout_can_be_built_and_every_family_has_one() -> None:
    assert KINDS.keys() == LAYOUTS.keys()
    for name, layout in LAYOUTS.items():
        assert set(KINDS[name].parts) == {layout.denoiser, "vae", *layout.tokenizers}
    assert {entry.pipeline for entry in FAMILY_CONFIGS.values()} <= LAYOUTS.keys()


def test_a_single_file_of_other_sizes_is_no_matter_of_the_table(family: TinyFamily) -> None:
    tensors = checkpoint_tensors(family.single)
    assert config_of_family(family.name, tensors, None) is None
    assert config_of_family("pixart", tensors, None, table=family.table) is None


def test_v_prediction_and_zero_snr_are_where_the_model_says_so(family: TinyFamily) -> None:
    tensors = checkpoint_tensors(family.single)

    def config(*args: Any) -> PipelineConfig:
        made = config_of_family(family.name, tensors, *args, table=family.table)
        assert made is not None
        return made

    assert config("v_prediction", ("v_pred", "ztsnr")).scheduler_config.items() >= ZERO_SNR.items()
    plain = {**family.table[family.name].scheduler}
    assert config(None, tuple(read_header(family.single).tensors)).scheduler_config == plain
    sizes = (config(None).native_size, config("v_prediction").native_size)
    assert sizes == (((16, 16), (24, 24)) if family.name == "sd-2" else ((16, 16), (16, 16)))


def test_clip_s_vocabulary_is_clip_s() -> None:
    """Known ids of https://github.com/openai/CLIP's tokenizer."""
    assert len(vocabulary()) == CLIP_TOKENS
    tokenizer = clip_tokenizer("<|endoftext|>", 77)
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("héllo WORLD!! 日本").input_ids[1:-1] == [71, 3459, 19293, 1002, 748, 39121, 19277, 361]
    padded = tokenizer("a", padding="max_length").input_ids
    assert (len(padded), padded[-1]) == (77, 49407)
    assert clip_tokenizer("!", 77)("a", padding="max_length").input_ids[-1] == 0


@pytest.mark.parametrize("lacking", ["text_encoder", "vae"])
def test_one_file_that_lacks_a_part_names_it(
    family: TinyFamily, backend: DiffusersBackend, job: GenerationJob, lacking: str, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    prefixes = {"vae": "first_stage_model.", "text_encoder": ("cond_stage_model.", "conditioner.embedders.0.")}
    tensors = {k: v for k, v in load_file(family.single).items() if not k.startswith(prefixes[lacking])}
    save_file(tensors, tmp_path / "part.safetensors")
    config = config_of_family(family.name, checkpoint_tensors(family.single), None, table=family.table)
    assert config is not None
    wanted = replace(job, checkpoint=CheckpointRef(tmp_path / "part.safetensors", f"{family.name} {lacking}", config))
    with pytest.raises(NotGenerable, match=f"has no {lacking}"):
        backend.generate(wanted)
