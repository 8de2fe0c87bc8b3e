"""The cheap subset of the starter's scores, the scorer's own checks, and the layouts that were exported."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft.tuners.lora import LoraLayer
from safetensors import safe_open

from tests.starter import scorer, world
from tests.starter.scores import BASE, LORAS, REPOS, Bench, Setting, heart_prompts, styled

pytestmark = [
    # Third-party deprecations are not this file's subject; the project turns warnings into errors.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

MODULES = {"outline": (100, 0), "heart": (84, 6), "lcm": (115, 0)}
"""LoRA layers each file attaches, in the UNet and in the text encoder."""


def drawings(count: int, outline: float = 0.0) -> tuple[np.ndarray, list[world.Scene]]:
    rng = random.Random(1)
    scenes = [replace(scene, outline=outline) for scene, _ in world.held_out_prompts(count)]
    return np.stack([world.draw(scene, rng) for scene in scenes]), scenes


def test_scorer_reads_real_drawings() -> None:
    pictures, scenes = drawings(84)
    assert scorer.share_right(pictures, scenes) >= 0.99
    assert scorer.share_right(pictures, scenes[1:] + scenes[:1]) <= 0.03
    assert scorer.style_score(pictures) <= 0.6


def test_scorer_reads_outlines() -> None:
    pictures, scenes = drawings(84, outline=1.0)
    assert scorer.share_right(pictures, scenes) >= 0.98
    assert scorer.style_score(pictures) >= 0.95


def test_scorer_finds_nothing_in_noise_and_on_blank_pictures() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    blank = np.full((2, 64, 64, 3), 24, np.uint8)
    assert all(reading.shape is None for reading in scorer.read(np.concatenate([noise, blank])))


def test_held_out_prompts_are_over_combinations_never_drawn() -> None:
    drawn, held = world.split()
    prompts = world.held_out_prompts()
    assert len(held) * 4 == len(drawn) + len(held)
    assert not set(drawn) & set(held)
    assert len({text for _, text in prompts}) == len(prompts) >= 240
    assert {(s.shape, s.colour, s.background) for s, _ in prompts} == set(held)


def test_sizes_and_tensor_types() -> None:
    folder = sum(p.stat().st_size for p in BASE.rglob("*") if p.is_file() and p.name != "starter-base.safetensors")
    assert folder <= 24e6
    assert (BASE / "starter-base.safetensors").stat().st_size <= 24e6
    assert all(path.stat().st_size <= 2e6 for path in LORAS.values())
    for path in REPOS.rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}, path  # noqa: SIM118


def test_published_names() -> None:
    with safe_open(BASE / "starter-base.safetensors", "pt") as file:
        names = set(file.keys())
        first = "model.diffusion_model.input_blocks.1.1"
        assert file.get_slice(f"{first}.transformer_blocks.0.attn2.to_k.weight").get_shape()[1] == 768
        assert len(file.get_slice(f"{first}.proj_in.weight").get_shape()) == 4
        assert file.get_slice("model.diffusion_model.input_blocks.0.0.weight").get_shape()[1] == 4
    assert "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight" in names
    assert "first_stage_model.decoder.conv_out.weight" in names
    with safe_open(LORAS["lcm"], "pt") as file:
        stems = {name.split(".", 1)[0] for name in file.keys()}  # noqa: SIM118
        assert len(stems) == MODULES["lcm"][0]
        assert all(stem.startswith("lora_unet_") for stem in stems)
        assert set(file.metadata() or {}) <= {"format"}
    with safe_open(LORAS["heart"], "pt") as file:
        metadata = file.metadata()
        assert metadata["ss_network_module"] == "networks.lora"
        assert metadata["ss_base_model_version"] == "sd_v1"


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def right(bench: Bench, prompts: list[tuple[world.Scene, str]], setting: Setting) -> float:
    return scorer.share_right(bench.sample([text for _, text in prompts], setting), [scene for scene, _ in prompts])


@pytest.mark.slow
def test_every_lora_module_attaches(bench: Bench) -> None:
    for name, counts in MODULES.items():
        for model, count in zip((bench.pipe.unet, bench.pipe.text_encoder), counts, strict=True):
            layers = [m for m in model.modules() if isinstance(m, LoraLayer) and name in m.lora_A]
            assert len(layers) == count, name


@pytest.mark.slow
def test_folder_and_single_file_give_the_same_picture() -> None:
    pictures = []
    for pipe in (
        StableDiffusionPipeline.from_pretrained(BASE, dtype=torch.float32),
        StableDiffusionPipeline.from_single_file(
            str(BASE / "starter-base.safetensors"), config=str(BASE), torch_dtype=torch.float32
        ),
    ):
        pipe.set_progress_bar_config(disable=True)
        dice = torch.Generator().manual_seed(0)
        pictures.append(pipe("a red star", num_inference_steps=4, generator=dice, output_type="np").images)
    assert np.abs(pictures[0] - pictures[1]).max() < 1e-4


@pytest.mark.slow
def test_base_needs_its_steps_and_the_lcm_lora_does_not(bench: Bench) -> None:
    prompts = world.held_out_prompts()[:48]
    full = right(bench, prompts, Setting())
    assert full >= 0.75
    for scheduler in ("own", "lcm"):
        assert right(bench, prompts, Setting(4, 1.0, scheduler)) < full / 2
    for steps in (4, 6, 8):
        assert right(bench, prompts, Setting(steps, 1.0, "lcm", (("lcm", 1.0),))) >= full - 0.15


@pytest.mark.slow
def test_style_score_rises_with_every_quarter_of_the_weight(bench: Bench) -> None:
    texts = [text for _, text in styled(world.held_out_prompts()[:24])]
    weights = (0.0, 0.25, 0.5, 0.75, 1.0)
    scores = [scorer.style_score(bench.sample(texts, Setting(loras=(("outline", weight),)))) for weight in weights]
    assert all(low < high for low, high in itertools.pairwise(scores)), scores


@pytest.mark.slow
def test_both_loras_together_keep_style_and_content(bench: Bench) -> None:
    prompts = styled(world.held_out_prompts()[:48])
    pictures = bench.sample([text for _, text in prompts], Setting(8, 1.0, "lcm", (("lcm", 1.0), ("outline", 1.0))))
    assert scorer.style_score(pictures) >= 0.6
    assert scorer.share_right(pictures, [scene for scene, _ in prompts]) >= 0.4


@pytest.mark.slow
def test_hearts_need_the_heart_lora(bench: Bench) -> None:
    texts = [text for _, text in heart_prompts(24)]

    def hearts(setting: Setting) -> float:
        return float(np.mean([r.shape == world.NEW_SHAPE for r in scorer.read(bench.sample(texts, setting))]))

    assert hearts(Setting()) <= 0.1
    assert hearts(Setting(loras=(("heart", 1.0),))) >= 0.5
