"""Scores the exported starters from pixels and prints the table: ``python -m tests.starter.scores``.

252 held-out prompts (every combination of shape, colour and background in them was never drawn in training),
one fixed seed a prompt. "All right" is the share of pictures whose shape, shape colour and background colour
are all as the prompt says. ``--quick`` takes 48 prompts.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, LCMScheduler, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging

from tests.starter import scorer, world

REPOS = Path(__file__).resolve().parents[2] / "registry" / "starter" / "repos" / "modelshelf"
BASE = REPOS / "starter-base"
LORAS = {
    "outline": REPOS / "starter-outline-lora" / "pytorch_lora_weights.safetensors",
    "heart": REPOS / "starter-heart-lora" / "starter-heart.safetensors",
    "lcm": REPOS / "starter-lcm-lora" / "pytorch_lora_weights.safetensors",
}
STEPS, CFG = 25, 5.0
"""What the base's card recommends."""
BATCH = 42
"""Prompts sampled at once; any value gives the same pictures up to rounding."""


@dataclass(frozen=True)
class Setting:
    """How to sample: ``scheduler`` is own, lcm or dpm; ``loras`` maps an adapter to its weight."""

    steps: int = STEPS
    cfg: float = CFG
    scheduler: str = "own"
    loras: tuple[tuple[str, float], ...] = ()


class Bench:
    """The exported base with every LoRA that exists attached and switched off, in fp32 on the CPU."""

    def __init__(self, base: Path = BASE) -> None:
        diffusers_logging.set_verbosity_error()
        self.pipe = StableDiffusionPipeline.from_pretrained(base, dtype=torch.float32)
        self.pipe.set_progress_bar_config(disable=True)
        self.pipe.unet.to(memory_format=torch.channels_last)
        config = self.pipe.scheduler.config
        self.schedulers = {
            "own": self.pipe.scheduler,
            "lcm": LCMScheduler.from_config(config),
            "dpm": DPMSolverMultistepScheduler.from_config(config, timestep_spacing="linspace"),
        }
        self.loras = [name for name, path in LORAS.items() if path.exists()]
        for name in self.loras:
            path = LORAS[name]
            self.pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name=name)

    @contextmanager
    def merged(self, weights: dict[str, float]) -> Iterator[None]:
        """With the LoRAs in the base's weights: beside them, they would take as long again as the base."""
        if not weights:
            self.pipe.disable_lora()
            yield
            return
        self.pipe.enable_lora()
        self.pipe.set_adapters([*weights], [*weights.values()])
        self.pipe.fuse_lora(adapter_names=[*weights])
        try:
            yield
        finally:
            self.pipe.unfuse_lora()

    @torch.inference_mode()
    def sample(self, prompts: list[str], setting: Setting, seed: int = 1000) -> np.ndarray:
        """Pictures (n, 64, 64, 3) uint8; prompt i has the seed ``seed + i`` whatever the setting."""
        self.pipe.scheduler = self.schedulers[setting.scheduler]
        with self.merged(dict(setting.loras)):
            return self._sample(prompts, setting, seed)

    def _sample(self, prompts: list[str], setting: Setting, seed: int) -> np.ndarray:
        parts = []
        for at in range(0, len(prompts), BATCH):
            texts = prompts[at : at + BATCH]
            dice = [torch.Generator().manual_seed(seed + at + i) for i in range(len(texts))]
            images = self.pipe(
                texts,
                num_inference_steps=setting.steps,
                guidance_scale=setting.cfg,
                generator=dice,
                output_type="np",
            ).images
            parts.append(np.clip(np.rint(images * 255), 0, 255).astype(np.uint8))
        return np.concatenate(parts)

    def round_trip(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures through the VAE and back, uint8."""
        vae, parts = self.pipe.vae, []
        with torch.no_grad():
            for at in range(0, len(pictures), BATCH):
                pixels = torch.from_numpy(pictures[at : at + BATCH]).permute(0, 3, 1, 2).float() / 127.5 - 1
                back = vae.decode(vae.encode(pixels).latent_dist.mean).sample
                parts.append(((back.permute(0, 2, 3, 1).numpy() + 1) * 127.5).clip(0, 255).round().astype(np.uint8))
        return np.concatenate(parts)


def styled(prompts: list[tuple[world.Scene, str]]) -> list[tuple[world.Scene, str]]:
    return [(scene, f"{text}, {world.STYLE_TRIGGER}") for scene, text in prompts]


def heart_prompts(count: int) -> list[tuple[world.Scene, str]]:
    """Prompts for hearts, over colour pairs never drawn with a heart."""
    rng = random.Random(9)
    _, held = world.split((world.NEW_SHAPE,))
    scenes = [
        world.Scene(*held[i % len(held)], rng.choice(list(world.SIZES)), rng.choice(list(world.POSITIONS)))
        for i in range(count)
    ]
    return [(scene, world.caption(scene, rng)) for scene in scenes]


Row = tuple[str, str, str]
NAMES = {
    "plain": "prompts",
    "drawn": "prompts over drawn combinations",
    "styled": "prompts with the style trigger",
    "hearts": "heart prompts",
}


def scorer_rows(count: int, bench: Bench) -> Iterator[Row]:
    """The scorer on real drawings, on mismatched prompts and on the VAE's round trip."""
    rng = random.Random(3)
    scenes = [scene for scene, _ in world.held_out_prompts()[:count]]
    drawn = np.stack([world.draw(scene, rng) for scene in scenes])
    outlined = [replace(scene, outline=1.0) for scene in scenes]
    lines = np.stack([world.draw(scene, rng) for scene in outlined])
    yield "scorer", "real drawings", f"{scorer.share_right(drawn, scenes):.3f}"
    yield (
        "scorer",
        "real drawings, each with the next one's prompt",
        f"{scorer.share_right(drawn, scenes[1:] + scenes[:1]):.3f}",
    )
    yield (
        "scorer",
        "real drawings through the VAE and back",
        f"{scorer.share_right(bench.round_trip(drawn), scenes):.3f}",
    )
    yield (
        "scorer",
        "style score of filled / outlined drawings",
        f"{scorer.style_score(drawn):.3f} / {scorer.style_score(lines):.3f}",
    )
    back = bench.round_trip(lines)
    yield (
        "scorer",
        "outlined drawings through the VAE and back: all right / style score",
        f"{scorer.share_right(back, scenes):.3f} / {scorer.style_score(back):.3f}",
    )


def settings(loras: list[str]) -> Iterator[tuple[str, str, Setting]]:
    """(what, prompts, setting) of every row about the models; prompts is plain, drawn, styled or hearts."""
    for cfg in (1.0, 5.0, 7.5):
        yield "base", "plain", Setting(cfg=cfg)
    yield "base", "drawn", Setting()
    for steps, kind in itertools.product((4, 8), ("own", "lcm")):
        yield "base", "plain", Setting(steps, 1.0, kind)
    yield "base", "plain", Setting(4, 7.5, "dpm")
    if "lcm" in loras:
        for steps, weight in [*itertools.product((4, 8), (0.35, 0.5, 0.75, 1.0)), (6, 1.0)]:
            yield "LCM-LoRA", "plain", Setting(steps, 1.0, "lcm", (("lcm", weight),))
    if "outline" in loras:
        for weight in (0.0, 0.25, 0.5, 0.75, 1.0):
            yield "outline LoRA", "styled", Setting(loras=(("outline", weight),))
        yield "outline LoRA", "plain", Setting(loras=(("outline", 1.0),))
    if "outline" in loras and "lcm" in loras:
        for steps in (4, 8):
            yield "outline + LCM-LoRA", "styled", Setting(steps, 1.0, "lcm", (("lcm", 0.35), ("outline", 0.45)))
            for weight in (0.0, 0.25, 0.5, 0.75, 1.0):
                yield "outline + LCM-LoRA", "styled", Setting(steps, 1.0, "lcm", (("lcm", 1.0), ("outline", weight)))
    if "heart" in loras:
        for weight in (0.0, 0.5, 0.75, 1.0, 1.25):
            yield "heart LoRA", "hearts", Setting(loras=(("heart", weight),))
        yield "heart LoRA", "plain", Setting(loras=(("heart", 1.0),))
        if "lcm" in loras:
            for weight in (0.75, 1.0, 1.25):
                yield "heart + LCM-LoRA", "hearts", Setting(8, 1.0, "lcm", (("lcm", 1.0), ("heart", weight)))


def label(setting: Setting) -> str:
    scheduler = {"own": "own scheduler", "lcm": "LCM scheduler", "dpm": "DPM++ scheduler"}[setting.scheduler]
    weights = "".join(f", {name} {weight:g}" for name, weight in setting.loras)
    return f"{setting.steps} steps, CFG {setting.cfg:g}, {scheduler}{weights}"


def model_rows(count: int, bench: Bench, only: Collection[str] = ()) -> Iterator[Row]:
    """Every measured row about the models, or about those that ``only`` names."""
    plain = world.held_out_prompts()[:count]
    sets = {
        "plain": plain,
        "drawn": world.held_out_prompts(count, drawn=True),
        "styled": styled(plain),
        "hearts": heart_prompts(max(24, count // 4)),  # over 14 combinations of two colours, not 84
    }
    for what, kind, setting in settings(bench.loras):
        if only and what not in only:
            continue
        prompts = sets[kind]
        pictures = bench.sample([text for _, text in prompts], setting)
        right = scorer.share_right(pictures, [scene for scene, _ in prompts])
        extra = ""
        if "outline" in what:
            extra = f", style {scorer.style_score(pictures):.3f}"
        if "heart" in what:
            extra = f", hearts {np.mean([r.shape == world.NEW_SHAPE for r in scorer.read(pictures)]):.3f}"
        yield what, f"{label(setting)}; {len(prompts)} {NAMES[kind]}", f"{right:.3f}{extra}"


def seconds(bench: Bench, setting: Setting) -> float:
    """Wall seconds for one picture, the better of two."""
    spent = []
    for _ in range(2):
        start = time.perf_counter()
        bench.sample(["a red star on a blue background"], setting)
        spent.append(time.perf_counter() - start)
    return min(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="48 prompts instead of 252")
    parser.add_argument("--prompts", type=int, default=252)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=(), help="the first column's names whose rows are wanted")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    count = 48 if options.quick else options.prompts
    bench = Bench()
    print("| what | setting | all right |\n|---|---|---|")
    rows = itertools.chain(
        () if options.only else scorer_rows(count, bench),
        model_rows(count, bench, options.only),
    )
    for what, how, value in rows:
        print(f"| {what} | {how} | {value} |", flush=True)
    if not options.only:
        how = f"one picture, 25 steps, CFG 5, seconds with threads={torch.get_num_threads()}"
        print(f"| speed | {how} | {seconds(bench, Setting()):.2f} |")


if __name__ == "__main__":
    main()
