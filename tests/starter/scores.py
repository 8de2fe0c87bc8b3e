"""Scores the exported starters from pixels and prints the table: ``python -m tests.starter.scores``.

252 held-out prompts (every combination of shape, colour and background in them was never drawn in training),
one fixed seed a prompt. "All right" is the share of pictures whose shape, shape colour and background colour
are all as the prompt says. ``--quick`` takes 48 prompts.
"""

from __future__ import annotations

import argparse
import random
import time
import warnings
from collections.abc import Iterator
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
        self.pipe = StableDiffusionPipeline.from_pretrained(base, torch_dtype=torch.float32)
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

    @torch.no_grad()
    def sample(self, prompts: list[str], setting: Setting, seed: int = 1000) -> np.ndarray:
        """Pictures (n, 64, 64, 3) uint8; prompt i has the seed ``seed + i`` whatever the setting."""
        self.pipe.scheduler = self.schedulers[setting.scheduler]
        if self.loras:
            if setting.loras:
                self.pipe.enable_lora()
                self.pipe.set_adapters([n for n, _ in setting.loras], [w for _, w in setting.loras])
            else:
                self.pipe.disable_lora()
        parts = []
        for at in range(0, len(prompts), BATCH):
            texts = prompts[at : at + BATCH]
            dice = [torch.Generator().manual_seed(seed + at + i) for i in range(len(texts))]
            images = self.pipe(texts, num_inference_steps=setting.steps, guidance_scale=setting.cfg,
                               generator=dice, output_type="np").images
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
    scenes = [world.Scene(*held[i % len(held)], rng.choice(list(world.SIZES)), rng.choice(list(world.POSITIONS)))
              for i in range(count)]
    return [(scene, world.caption(scene, rng)) for scene in scenes]


Row = tuple[str, str, str]


def scorer_rows(count: int, bench: Bench) -> Iterator[Row]:
    """The scorer on real drawings, on mismatched prompts and on the VAE's round trip."""
    rng = random.Random(3)
    scenes = [scene for scene, _ in world.held_out_prompts(count)]
    drawn = np.stack([world.draw(scene, rng) for scene in scenes])
    outlined = [replace(scene, outline=True) for scene in scenes]
    lines = np.stack([world.draw(scene, rng) for scene in outlined])
    yield "scorer", "real drawings", f"{scorer.share_right(drawn, scenes):.3f}"
    yield "scorer", "real drawings, each with the next one's prompt", f"{scorer.share_right(drawn, scenes[1:] + scenes[:1]):.3f}"
    yield "scorer", "real drawings through the VAE and back", f"{scorer.share_right(bench.round_trip(drawn), scenes):.3f}"
    yield "scorer", "style score of filled / outlined drawings", f"{scorer.style_score(drawn):.3f} / {scorer.style_score(lines):.3f}"
    back = bench.round_trip(lines)
    yield ("scorer", "outlined drawings through the VAE and back: all right / style score",
           f"{scorer.share_right(back, scenes):.3f} / {scorer.style_score(back):.3f}")


def model_rows(count: int, bench: Bench) -> Iterator[Row]:
    """Every measured row about the models."""
    plain = world.held_out_prompts(count)
    style = styled(plain[: count // 2])
    hearts = heart_prompts(max(24, count // 3))

    def right(prompts: list[tuple[world.Scene, str]], setting: Setting) -> str:
        return f"{scorer.share_right(bench.sample([t for _, t in prompts], setting), [s for s, _ in prompts]):.3f}"

    def both(prompts: list[tuple[world.Scene, str]], setting: Setting) -> str:
        pictures = bench.sample([t for _, t in prompts], setting)
        return f"{scorer.share_right(pictures, [s for s, _ in prompts]):.3f} / {scorer.style_score(pictures):.3f}"

    for cfg in (1.0, 3.0, 5.0, 7.5):
        yield "base", f"25 steps, CFG {cfg:g}", right(plain, Setting(cfg=cfg))
    for kind in ("own", "lcm"):
        for steps in (4, 8):
            yield "base", f"{steps} steps, CFG 1, {kind} scheduler", right(plain, Setting(steps, 1.0, kind))
    yield "base", "4 steps, CFG 7.5, DPM++ scheduler", right(plain, Setting(4, 7.5, "dpm"))
    if "lcm" in bench.loras:
        for steps in (4, 6, 8):
            for weight in (0.35, 0.5, 0.75, 1.0, 1.25):
                setting = Setting(steps, 1.0, "lcm", (("lcm", weight),))
                yield "LCM-LoRA", f"{steps} steps, CFG 1, LCM scheduler, weight {weight:g}", right(plain, setting)
    if "outline" in bench.loras:
        for weight in (0.0, 0.25, 0.45, 0.5, 0.75, 1.0):
            yield ("outline LoRA", f"25 steps, CFG 5, weight {weight:g}: all right / style score",
                   both(style, Setting(loras=(("outline", weight),))))
        yield ("outline LoRA", "weight 1, no trigger: all right / style score",
               both(plain[: count // 2], Setting(loras=(("outline", 1.0),))))
    if "outline" in bench.loras and "lcm" in bench.loras:
        for fast, weight in ((0.35, 0.45), (1.0, 0.0), (1.0, 0.25), (1.0, 0.45), (1.0, 0.5), (1.0, 0.75), (1.0, 1.0)):
            for steps in (4, 8):
                setting = Setting(steps, 1.0, "lcm", (("lcm", fast), ("outline", weight)))
                yield ("outline + LCM", f"{steps} steps, CFG 1, LCM {fast:g}, outline {weight:g}: all right / style score",
                       both(style, setting))
    if "heart" in bench.loras:
        for weight in (0.0, 0.25, 0.5, 0.75, 1.0):
            yield "heart LoRA", f"25 steps, CFG 5, weight {weight:g}", right(hearts, Setting(loras=(("heart", weight),)))
        pictures = bench.sample([t for _, t in plain[: count // 2]], Setting(loras=(("heart", 1.0),)))
        stray = np.mean([reading.shape == world.NEW_SHAPE for reading in scorer.read(pictures)])
        kept = scorer.share_right(pictures, [s for s, _ in plain[: count // 2]])
        yield "heart LoRA", "weight 1, prompts without the trigger: all right / share of hearts", f"{kept:.3f} / {stray:.3f}"
        if "lcm" in bench.loras:
            setting = Setting(8, 1.0, "lcm", (("lcm", 1.0), ("heart", 1.0)))
            yield "heart + LCM", "8 steps, CFG 1, LCM 1, heart 1", right(hearts, setting)


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
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    count = 48 if options.quick else options.prompts
    bench = Bench()
    print(f"| what | setting | score ({count} held-out prompts) |\n|---|---|---|")
    for rows in (scorer_rows, model_rows):
        for what, label, value in rows(count, bench):
            print(f"| {what} | {label} | {value} |", flush=True)
    print(f"| speed | one picture, 25 steps, CFG 5, seconds on 2 cores | {seconds(bench, Setting()):.2f} |")


if __name__ == "__main__":
    main()
