"""LoRAs on a UNet of Stable Diffusion 1.5's true size with random weights: ours against diffusers + PEFT doing the same job."""

from __future__ import annotations

import ctypes
import gc
import logging
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from probes import read_header
from registry.compatibility import check_fit
from registry.weights.adapters import Factors, Strength, load_factors
from registry.weights.bundle import Bundle, load_bundle
from registry.weights.overlay import Slot, Wearer
from tests.benchmarks.tables import Table

SD15 = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
}
"""UNet2DConditionModel's defaults, but for these; 859.5 million parameters."""
QUICK = SD15 | {"block_out_channels": (64, 64, 128, 128), "cross_attention_dim": 96}
ATTENTION = r".*\.attn[12]\.to_(q|k|v|out\.0)\.weight"  # 128 modules
LCM = (  # the 278 target modules of the published LCM-LoRA
    r".*(to_q|to_k|to_v|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2"
    r"|conv1|conv2|conv_shortcut|time_emb_proj|downsamplers\.0\.conv|upsamplers\.0\.conv)\.weight"
)
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
    config = QUICK if quick else SD15
    theirs = Theirs(UNet2DConditionModel(**config).to(dtype).requires_grad_(False).eval())
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.unet.state_dict().items()}
    (folder / "unet").mkdir()
    save_file(theirs.unet.state_dict(), folder / "unet" / "diffusion_pytorch_model.safetensors")
    files = {
        name: _adapter(folder / f"{name}.safetensors", shapes, targets, rank)
        for name, targets, rank in (("style", ATTENTION, 16), ("other", ATTENTION, 16), ("lcm", LCM, 64))
    }
    ours = Ours(load_bundle(folder, "base", CPU, dtype), config)
    before = ours.bundle.fingerprint()
    contest = _Contest(ours, theirs, rounds=1 if quick else 3)

    contest.both("put on: rank 16, attention", "4", "bare", lambda side: side.put_on(files["style"]))
    contest.both("put on: rank 64, LCM-LoRA", "1.5", "bare", lambda side: side.put_on(files["lcm"]))
    contest.both("change its weight", "4", "style", lambda side: side.change("style", 0.5), files)
    contest.both("switch to a resident set", "4", "style", lambda side: side.change("other", 1.0), files)
    off, _ = contest.both("take it off", "", "style", lambda side: side.take_off(), files)
    contest.both("the same set again", "", "style", lambda side: side.change("style", 1.0), files, theirs_too=False)
    again = contest.rows[-1][1]
    contest.bare()
    extra = ours.beyond_base_and_overlay(files["lcm"])
    contest.bare()
    exact = ours.bundle.fingerprint() == before
    drift = theirs.drift(files["style"])
    count = sum(tensor.numel() for tensor in ours.bundle.tensors.values())
    return Table(
        f"LoRAs on a UNet of {count:,} parameters, {dtype}: CPU seconds on one thread",
        ("operation", "ours", "diffusers + PEFT", "ratio", "goal"),
        contest.rows,
        (
            f"take it off: {off * 1e3:.2f} ms (goal under 5); the same set again: {float(again) * 1e3:.3f} ms (goal under 1)",
            f"every base byte equal afterwards: {exact}; after diffusers' fuse and unfuse {drift:,} values differ",
            f"peak memory beyond base, overlay and factors while an LCM-LoRA is put on: {extra / 2**20:.0f} MiB (goal under 64)",
        ),
    )


def _adapter(path: Path, shapes: dict[str, tuple[int, ...]], targets: str, rank: int) -> Path:
    """Random, half precision, in PEFT's layout, which both read without converting names."""
    made: dict[str, Tensor] = {}
    for weight, (rows, columns, *kernel) in ((n, s) for n, s in shapes.items() if re.fullmatch(targets, n)):
        module = f"unet.{weight.removesuffix('.weight')}"
        made[f"{module}.lora_A.weight"] = torch.randn(rank, columns, *kernel).mul_(0.01).half()
        made[f"{module}.lora_B.weight"] = torch.randn(rows, rank, *(1 for _ in kernel)).mul_(0.01).half()
    save_file(made, path)
    return path


class Ours:
    """As the backend does it, without the backend: a skeleton bound to a bundle, which is the mapped file."""

    def __init__(self, bundle: Bundle, config: dict[str, object]) -> None:
        self.bundle = bundle
        with torch.device("meta"):
            unet = UNet2DConditionModel(**config).requires_grad_(False)
        unet.load_state_dict({name.removeprefix("unet."): t for name, t in bundle.tensors.items()}, assign=True)
        slots = {
            f"unet.{name}": Slot(unet.get_submodule(name.rpartition(".")[0]), parameter)
            for name, parameter in unet.named_parameters()
        }
        self.wearer = Wearer(bundle, slots)
        self.resident: dict[str, Factors] = {}

    def load(self, path: Path) -> None:
        assert check_fit(read_header(path), self.bundle.specs).fits
        self.resident[path.stem] = load_factors(path, self.bundle.shapes, CPU)

    def change(self, name: str, weight: float) -> None:
        self.wearer.wear({name: (self.resident[name], Strength(weight, weight))})

    def put_on(self, path: Path) -> None:
        self.load(path)
        self.change(path.stem, 1.0)

    first = change

    def take_off(self) -> None:
        self.wearer.wear({})

    def forget(self) -> None:
        self.take_off()
        self.resident.clear()

    def beyond_base_and_overlay(self, path: Path) -> int:
        """Bytes. Linux tells a process' peak, and lets it be set back."""
        self.load(path)
        self.bundle.fingerprint()  # every page of the mapped files counts already
        layers = self.resident[path.stem].layers.values()
        assert all(part.isfinite().all() for layer in layers for part in layer.parts.values())
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed and not returned would be counted as there already
        Path("/proc/self/clear_refs").write_text("5")
        held = _status("VmRSS")
        self.change(path.stem, 1.0)
        return _status("VmHWM") - held - self.wearer.nbytes


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


class Theirs:
    """diffusers' own calls on the UNet; through a pipeline each costs a little more."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.unet = unet

    def load(self, path: Path) -> None:
        self.unet.load_lora_adapter(path.parent, weight_name=path.name, prefix="unet", adapter_name=path.stem)

    def first(self, name: str, weight: float) -> None:
        self.unet.set_adapters([name])
        self.unet.fuse_lora(lora_scale=weight, adapter_names=[name])

    def change(self, name: str, weight: float) -> None:
        self.unet.unfuse_lora()
        self.first(name, weight)

    def put_on(self, path: Path) -> None:
        self.load(path)
        self.first(path.stem, 1.0)

    def take_off(self) -> None:
        self.unet.unfuse_lora()

    def forget(self) -> None:
        if getattr(self.unet, "peft_config", None):
            self.unet.unfuse_lora()
            self.unet.unload_lora()

    def drift(self, path: Path) -> int:
        """How many of the touched values are not what they were after one fuse and unfuse."""
        touched = {n: tensor.clone() for n, tensor in self.unet.state_dict().items() if re.fullmatch(ATTENTION, n)}
        self.put_on(path)
        self.forget()
        after = self.unet.state_dict()
        return sum(int((after[name] != tensor).sum()) for name, tensor in touched.items())


class _Contest:
    """Both sides take turns, each round from another one on; what brings them to where an operation starts is not counted."""

    def __init__(self, ours: Ours, theirs: Theirs, rounds: int) -> None:
        self.sides: dict[str, Ours | Theirs] = {"ours": ours, "theirs": theirs}
        self.rounds = rounds
        self.rows: list[tuple[str | float, ...]] = []

    def bare(self) -> None:
        for side in self.sides.values():
            side.forget()

    def both(
        self,
        what: str,
        goal: str,
        start: str,
        operation: Callable[[Ours | Theirs], object],
        files: dict[str, Path] | None = None,
        theirs_too: bool = True,
    ) -> tuple[float, float]:
        """Adds a row. `start`: bare, or the name of the file that is worn, with all of `files` but the LCM-LoRA resident."""
        names = ["ours", "theirs"] if theirs_too else ["ours"]
        spent: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(self.rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                side = self.sides[name]
                side.forget()
                if files:
                    for resident in ("style", "other"):
                        side.load(files[resident])
                    side.first(start, 1.0)
                began = time.process_time()
                operation(side)
                spent[name].append(time.process_time() - began)
        ours, theirs = median(spent["ours"]), median(spent.get("theirs", [0.0]))
        ratio = theirs / ours if theirs_too else "-"
        self.rows.append((what, ours, theirs if theirs_too else "-", ratio, f"at least {goal}" if goal else "-"))
        return ours, theirs
