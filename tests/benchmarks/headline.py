"""What an LCM-LoRA saves: 4 steps without guidance, the LoRA put on anew for each picture, against 25 steps with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from unittest.mock import patch

import torch

from registry.backends import AdapterRef, BackendOptions, CheckpointRef, GenerationJob
from registry.backends.diffusers import DiffusersBackend
from registry.backends.diffusers import backend as backend_module
from registry.backends.machine import Stopwatch
from registry.family_configs import FAMILY_CONFIGS
from registry.holders import Holder
from registry.pipeline_config import PipelineConfig
from registry.starter import starter_repositories
from tests.benchmarks.models import LCM, small, unet_shapes, write_adapter, write_checkpoint
from tests.benchmarks.tables import Table

SDXL_SIDE = 768
"""Pixels. The smaller, the more of a pass and of the switching is reading the weights, which takes as long for one picture as for two."""


def run(quick: bool) -> Iterator[Table]:
    torch.set_num_threads(1)  # process time counts what spinning threads wait, too
    with patch.object(backend_module, "Stopwatch", partial(Stopwatch, now=process_time)):
        for larger in (1, 2):
            yield _starter(larger, rounds=2 if quick else 15)
        yield _sdxl(quick)


def _starter(larger: int, rounds: int) -> Table:
    """At so many times the size that it was trained on: there a pass is too short to fill even one thread."""
    home = next(repository for repository in starter_repositories() if repository.name == "starter-base").parent
    config = PipelineConfig.from_folder(home / "starter-base")
    checkpoint = CheckpointRef(home / "starter-base", "starter", config)
    lora = AdapterRef(home / "starter-lcm-lora" / "pytorch_lora_weights.safetensors", "lcm", 1.0, "starter-lcm-lora")
    backend = DiffusersBackend(BackendOptions(device="cpu", dtype="float32"))
    width, height = (larger * side for side in config.native_size)
    return _table("the starter, float32", backend, checkpoint, lora, width, height, rounds)


def _sdxl(quick: bool) -> Table:
    components = small("sdxl") if quick else FAMILY_CONFIGS["sdxl"].components
    side = 64 if quick else SDXL_SIDE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_checkpoint(folder / "sdxl", "sdxl", torch.bfloat16, components)
        file = write_adapter(folder / "lcm.safetensors", unet_shapes("sdxl", components), LCM, 64)
        checkpoint = CheckpointRef(folder / "sdxl", "sdxl", config)
        backend = DiffusersBackend(BackendOptions(device="cpu", dtype="bfloat16", budget_bytes=2**35))
        backend.load(checkpoint, Holder())
        lora = AdapterRef(file, "lcm", 1.0, "an LCM-LoRA of rank 64, 788 modules")
        return _table("SDXL's true sizes, random weights, bfloat16", backend, checkpoint, lora, side, side, rounds=1)


def _table(
    what: str,
    backend: DiffusersBackend,
    checkpoint: CheckpointRef,
    lora: AdapterRef,
    width: int,
    height: int,
    rounds: int,
) -> Table:
    """Each round is a picture without the LoRA and one with it, of another weight than the last, so that it is made anew every time."""
    usual = GenerationJob(
        checkpoint, "a red circle on a white background", "ddim", steps=25, cfg=7.5, seed=1, width=width, height=height
    )
    fast = replace(usual, adapters=(lora,), scheduler="lcm", steps=4, cfg=1.0)
    backend.generate(replace(fast, steps=1))  # reads the LoRA's file; the first pictures of all are slower
    backend.generate(replace(usual, steps=1))
    spent: dict[str, list[Mapping[str, float]]] = {"usual": [], "fast": [], "again": []}
    for nth in range(1, rounds + 1):
        fast = replace(fast, adapters=(replace(lora, weight=lora.weight - nth / 1000),))
        spent["usual"].append(backend.generate(usual).timings)
        spent["fast"].append(backend.generate(fast).timings)
        backend.generate(replace(usual, steps=1))
        spent["again"].append(backend.generate(replace(fast, steps=1)).timings)

    def of(side: str, *phases: str) -> float:
        return median(sum(timings[phase] for phase in phases) for timings in spent[side])

    switching, again, alone = of("fast", "adapters"), of("again", "adapters"), of("fast", "denoise")
    of_denoising = of("usual", "adapters", "denoise")
    rows: list[tuple[str | float, ...]] = [
        (part, slow, quick, slow / quick, goal)
        for part, slow, quick, goal in (
            ("denoising, the LoRA put on anew", of_denoising, of("fast", "adapters", "denoise"), "at least 10"),
            ("denoising, the LoRA put back on", of_denoising, alone + again, "at least 10"),
            ("denoising alone", of("usual", "denoise"), alone, "-"),
            ("the whole request, put on anew", of("usual", "total"), of("fast", "total"), "-"),
        )
    ]
    rows += [("putting it on anew", "-", switching, "-", "-"), ("putting it back on", "-", again, "-", "-")]
    return Table(
        f"LCM-LoRA on {what}, {width}x{height} pixels: CPU seconds on one thread",
        ("part", "25 steps, CFG 7.5", "4 steps, CFG 1, LCM-LoRA", "ratio", "goal"),
        rows,
        (
            "12.5 times fewer passes of the denoiser, if a pass for guidance takes as long as one without: "
            "two in one batch take less where a pass does not fill the device",
            "put back on: after a picture without it the LoRA is wanted again, with the same weight",
        ),
    )
