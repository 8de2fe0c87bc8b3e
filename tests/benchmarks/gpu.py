"""LoRAs on SDXL's true sizes in half precision on a CUDA device, and how fast 6.9 GB come to it. Random weights.

Without such a device it says so; `--quick` goes through all of it in a tenth of the width on whatever device there is.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch

from registry.family_configs import FAMILY_CONFIGS
from registry.weights.bundle import load_bundle
from registry.weights.files import weight_files
from registry.weights.reading import Move, read
from tests.benchmarks.contest import Components, Contest, Ours, Theirs, clock
from tests.benchmarks.models import LCM, LINEARS, small, unet_shapes, write_adapter, write_checkpoint
from tests.benchmarks.tables import Table

PIECE = 256 * 2**20


def run(quick: bool) -> Iterator[Table]:
    if not torch.cuda.is_available() and not quick:
        yield Table("LoRAs on SDXL on a GPU: not measured, there is no CUDA device", ("", ""), ())
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU, for trying alone"
    if device.type == "cpu":
        torch.set_num_threads(1)
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="peft")
    components = small("sdxl") if quick else FAMILY_CONFIGS["sdxl"].components
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder) / "sdxl", "sdxl", torch.float16, components)
        yield _loading(Path(folder) / "sdxl", device, name)
        yield _switching(Path(folder), components, device, name, rounds=1 if quick else 7)


def _switching(folder: Path, components: Components, device: torch.device, name: str, rounds: int) -> Table:
    torch.manual_seed(0)
    shapes = unet_shapes("sdxl", components)
    files = {
        file: write_adapter(folder / f"{file}.safetensors", shapes, targets, rank)
        for file, targets, rank in (("style", LINEARS, 32), ("other", LINEARS, 32), ("lcm", LCM, 64))
    }
    theirs = Theirs(folder / "sdxl", "sdxl", components, device)
    ours = Ours(folder / "sdxl", "sdxl", components, torch.float16, device)
    before = ours.bundle.fingerprint()
    contest = Contest(ours, theirs, rounds)
    cold, _ = contest.both("put on: rank 32, linear layers", "", "bare", lambda side: side.put_on(files["style"]))
    contest.both("put on: rank 64, LCM-LoRA", "", "bare", lambda side: side.put_on(files["lcm"]))
    contest.both("change its weight", "", "style", lambda side: side.change("style", 0.5), files)
    warm, _ = contest.both("switch to a resident set", "", "style", lambda side: side.change("other", 1.0), files)
    off, _ = contest.both("take it off", "", "style", lambda side: side.take_off(), files)
    contest.both("the same set again", "", "style", lambda side: side.change("style", 1.0), files, sides=1)
    contest.bare()
    exact = ours.bundle.fingerprint() == before
    return Table(
        f"LoRAs on SDXL's UNet, float16, on {name}: seconds",
        ("operation", "ours", "diffusers + PEFT", "ratio", "goal"),
        contest.rows,
        (
            f"cold, from page cache: {cold * 1e3:.1f} ms (goal under 60); warm: {warm * 1e3:.1f} ms (goal under 10); "
            f"off: {off * 1e3:.2f} ms (goal under 2)",
            f"every base byte equal afterwards: {exact}; after diffusers' fuses and unfuses {theirs.drift():,} values differ",
        ),
    )


def _loading(checkpoint: Path, device: torch.device, name: str) -> Table:
    """A bundle from a disk that has nothing of it in memory, against the same reads alone and against copies from pinned memory alone."""
    size = sum(file.path.stat().st_size for file in weight_files(checkpoint))
    load_bundle(checkpoint, "warm", device, torch.float16)  # which makes the ring
    rates = {
        "disk alone": _rate(size, lambda: _read_only(checkpoint), checkpoint, device),
        "bus alone": _bus(size, device),
        "a bundle": _rate(size, lambda: load_bundle(checkpoint, "a", device, torch.float16), checkpoint, device),
        "a bundle, from page cache": _rate(
            size, lambda: load_bundle(checkpoint, "a", device, torch.float16), None, device
        ),
    }
    limit = min(rates["disk alone"], rates["bus alone"])
    rows = [
        (what, size / rate, rate / 1e9, rate / limit, "at least 0.7" if what == "a bundle" else "-")
        for what, rate in rates.items()
    ]
    columns = ("what", "seconds", "GB/s", "of the slower of disk and bus", "goal")
    return Table(f"Loading {size / 1e9:.2f} GB in float16 to {name}", columns, rows)


def _rate(size: int, load: Callable[[], object], drop: Path | None, device: torch.device) -> float:
    """Bytes per second, the median of three; `drop`: its files leave the page cache before each."""
    seconds = []
    for _ in range(3):
        for file in weight_files(drop) if drop else ():
            descriptor = os.open(file.path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        clock(device)
        began = time.perf_counter()
        kept = load()
        clock(device)
        seconds.append(time.perf_counter() - began)
        del kept
    return size / median(seconds)


def _read_only(checkpoint: Path) -> None:
    """The loader's own reads, of which nothing is made: each block is copied over the last, in memory."""
    for file in weight_files(checkpoint):
        size = file.path.stat().st_size
        whole = torch.empty(min(size, PIECE), dtype=torch.uint8)
        for start in range(0, size, PIECE):
            count = min(PIECE, size - start)
            read([Move(file.path, start, torch.uint8, count, whole[:count])], torch.device("cpu"))


def _bus(size: int, device: torch.device) -> float:
    """Bytes per second from pinned memory to the device."""
    source = torch.empty(min(size, PIECE), dtype=torch.uint8, pin_memory=device.type == "cuda")
    to = torch.empty_like(source, device=device)
    times = max(1, size // source.numel())
    to.copy_(source)
    clock(device)
    began = time.perf_counter()
    for _ in range(times):
        to.copy_(source, non_blocking=True)
    clock(device)
    return times * source.numel() / (time.perf_counter() - began)
