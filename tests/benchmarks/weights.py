"""LoRAs on a UNet of Stable Diffusion 1.5's true size with random weights: ours against diffusers + PEFT doing the same job."""

from __future__ import annotations

import gc
import logging
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from registry.family_configs import FAMILY_CONFIGS
from registry.weights.bundle import bundle_bytes, load_bundle
from tests.benchmarks.contest import Contest, Ours, Theirs, peak
from tests.benchmarks.models import ATTENTION, LCM, small, unet_shapes, write_adapter, write_checkpoint
from tests.benchmarks.tables import Table

CPU = torch.device("cpu")


def run(quick: bool) -> Iterator[Table]:
    torch.set_num_threads(1)
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="peft")  # a second adapter, and unmerging twice
    for dtype in (torch.float32, torch.bfloat16):
        with tempfile.TemporaryDirectory() as folder:
            yield _table(Path(folder), dtype, quick)
        gc.collect()


def _table(folder: Path, dtype: torch.dtype, quick: bool) -> Table:
    torch.manual_seed(0)
    components = small("sd-1") if quick else FAMILY_CONFIGS["sd-1"].components
    write_checkpoint(folder, "sd-1", dtype, {**small("sd-1"), "unet": components["unet"]})
    shapes = unet_shapes("sd-1", components)
    files = {
        name: write_adapter(folder / f"{name}.safetensors", shapes, targets, rank)
        for name, targets, rank in (("style", ATTENTION, 16), ("other", ATTENTION, 16), ("lcm", LCM, 64))
    }
    theirs = Theirs(folder, "sd-1", components, CPU)
    loading = _loading(folder)
    ours = Ours(folder, "sd-1", components, dtype, CPU)
    before = ours.bundle.fingerprint()
    contest = Contest(ours, theirs, rounds=1 if quick else 5)

    contest.both("put on: rank 16, attention", "4", "bare", lambda side: side.put_on(files["style"]))
    contest.both("put on: rank 64, LCM-LoRA", "1.5", "bare", lambda side: side.put_on(files["lcm"]), rounds=3)
    contest.both("change its weight", "4", "style", lambda side: side.change("style", 0.5), files)
    contest.both("switch to a resident set", "4", "style", lambda side: side.change("other", 1.0), files)
    off, _ = contest.both("take it off", "", "style", lambda side: side.take_off(), files)
    contest.both("off, and the same on again", "", "style", lambda side: side.off_and_on("style"), files)
    again, _ = contest.both("the same set again", "", "style", lambda side: side.change("style", 1.0), files, sides=1)
    contest.bare()
    first = ours.into_fresh_memory(files["style"])
    extra = ours.beyond_base_and_overlay(files["lcm"])
    contest.bare()
    exact = ours.bundle.fingerprint() == before
    count = sum(tensor.numel() for name, tensor in ours.bundle.tensors.items() if name.startswith("unet."))
    return Table(
        f"LoRAs on a UNet of {count:,} parameters, {dtype}: CPU seconds on one thread",
        ("operation", "ours", "diffusers + PEFT", "ratio", "goal"),
        contest.rows,
        (
            f"take it off: {off * 1e3:.2f} ms (goal under 5); the same set again: {again * 1e3:.3f} ms (goal under 1)",
            f"a copy of the weights that the rank 16 set touches, the least that any overlay takes: {ours.copied(ATTENTION):.3f} s",
            f"the first overlay of all has no older one's memory to lie in: rank 16, attention, is put on in {first:.3f} s",
            f"every base byte equal afterwards: {exact}; after diffusers' fuses and unfuses {theirs.drift():,} values differ",
            f"peak memory beyond base, overlay and factors while an LCM-LoRA is put on: {extra / 2**20:.0f} MiB (goal under 64)",
            f"peak host memory beyond the model while it is loaded: {loading} (goal under 256)",
        ),
    )


def _loading(checkpoint: Path) -> str:
    """Each in a process of its own, whose memory nothing has used before. Meta stands for a device with memory of its own: everything is
    read for it, and nothing of it stays."""
    beyond = {}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh:
        for device in ("cpu", "meta"):
            beyond[device] = fresh.submit(_beyond_the_model, checkpoint, device).result() / 2**20
    return f"{beyond['cpu']:.0f} MiB, converted to float16 on the CPU; {beyond['meta']:.0f} MiB for another device"


def _beyond_the_model(checkpoint: Path, device: str) -> int:
    model = bundle_bytes(checkpoint, torch.float16) if device == "cpu" else 0
    return peak(lambda: load_bundle(checkpoint, "a", torch.device(device), torch.float16)) - model
