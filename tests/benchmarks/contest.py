"""Two who do the same with the same files: a bundle with its wearer, and diffusers with PEFT."""

from __future__ import annotations

import ctypes
import gc
import re
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import diffusers
import torch
from safetensors.torch import load_file

from probes import read_header
from registry.backends.diffusers.families import KINDS
from registry.compatibility import check_fit
from registry.family_configs import FAMILY_CONFIGS
from registry.pipeline_config import Json
from registry.weights.adapters import Factors, Strength, load_factors
from registry.weights.bundle import load_bundle
from registry.weights.overlay import Slot, Wearer
from tests.benchmarks.models import small

Components = Mapping[str, Json]


def clock(device: torch.device) -> float:
    """Seconds: of this process on a CPU, which others share; on a GPU of the wall, when all that was asked of it is done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


class Ours:
    """As the backend does it, without the backend: a skeleton bound to a bundle, which on a CPU is the mapped file."""

    def __init__(self, folder: Path, family: str, components: Components, dtype: torch.dtype, device: torch.device):
        self.bundle = bundle = load_bundle(folder, "base", device, dtype)
        with torch.device("meta"):
            unet = KINDS[FAMILY_CONFIGS[family].pipeline].parts["unet"](components["unet"]).requires_grad_(False)
        own = {name.removeprefix("unet."): t for name, t in bundle.tensors.items() if name.startswith("unet.")}
        unet.load_state_dict(own, assign=True)
        slots = {
            f"unet.{name}": Slot(unet.get_submodule(name.rpartition(".")[0]), parameter)
            for name, parameter in unet.named_parameters()
        }
        self.wearer = Wearer(bundle, slots)
        self.resident: dict[str, tuple[str, Factors]] = {}
        self._loads = count()

    def load(self, path: Path) -> None:
        """Each time under another key, so that it is never the set which was worn last."""
        assert check_fit(read_header(path), self.bundle.specs).fits
        factors = load_factors(path, self.bundle.shapes, self.bundle.device)
        self.resident[path.stem] = f"{path.stem} {next(self._loads)}", factors

    def change(self, name: str, weight: float) -> None:
        key, factors = self.resident[name]
        self.wearer.wear({key: (factors, Strength(weight, weight))})

    def put_on(self, path: Path) -> None:
        self.load(path)
        self.change(path.stem, 1.0)

    first = change

    def take_off(self) -> None:
        self.wearer.wear({})

    def off_and_on(self, name: str) -> None:
        self.take_off()
        self.change(name, 1.0)

    def forget(self) -> None:
        self.take_off()
        self.resident.clear()

    def into_fresh_memory(self, path: Path) -> float:
        """Seconds of a put-on by a process that has put nothing on before."""
        self.forget()
        self.wearer.release()
        ctypes.CDLL(None).malloc_trim(0)
        began = clock(self.bundle.device)
        self.put_on(path)
        return clock(self.bundle.device) - began

    def copied(self, targets: str) -> float:
        """Seconds of a copy of the weights that match, into memory that is there: no overlay of them is made in less."""
        touched = [t for name, t in self.bundle.tensors.items() if re.fullmatch(targets, name)]
        to = [torch.zeros_like(tensor, memory_format=torch.contiguous_format) for tensor in touched]
        spent = []
        for _ in range(5):
            began = clock(self.bundle.device)
            for tensor, copy in zip(touched, to, strict=True):
                copy.copy_(tensor)
            spent.append(clock(self.bundle.device) - began)
        return median(spent)

    def beyond_base_and_overlay(self, path: Path) -> int:
        """Bytes. Linux tells a process' peak, and lets it be set back."""
        self.forget()
        self.wearer.release()
        self.load(path)
        self.bundle.fingerprint()  # every page of the mapped files counts already
        layers = self.resident[path.stem][1].layers.values()
        assert all(part.isfinite().all() for layer in layers for part in layer.parts.values())
        return peak(lambda: self.change(path.stem, 1.0)) - self.wearer.nbytes


def peak(work: Callable[[], object]) -> int:
    """Bytes of host memory that `work` takes at its peak, its result included."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed and not returned would be counted as there already
    Path("/proc/self/clear_refs").write_text("5")
    held = _status("VmRSS")
    kept = work()
    most = _status("VmHWM") - held
    del kept
    return most


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


class Theirs:
    """diffusers' own calls, as its documentation gives them; the pipeline's other parts are small."""

    def __init__(self, folder: Path, family: str, components: Components, device: torch.device):
        kind = KINDS[FAMILY_CONFIGS[family].pipeline]
        self.path = folder / "unet" / "diffusion_pytorch_model.safetensors"
        with torch.device("meta"):
            self.unet: Any = kind.parts["unet"](components["unet"]).requires_grad_(False).eval()
        own = {name: tensor.to(device, copy=True) for name, tensor in load_file(self.path).items()}
        self.unet.load_state_dict(own, assign=True)
        few = small(family)
        others = {name: make(few[name]) for name, make in kind.parts.items() if name != "unet"}
        none = dict.fromkeys((*FAMILY_CONFIGS[family].tokenizers, "scheduler"))
        self.pipe = getattr(diffusers, kind.text_to_image)(unet=self.unet, **others, **none, **kind.extras)

    def load(self, path: Path) -> None:
        self.pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name=path.stem)

    def first(self, name: str, weight: float) -> None:
        self.pipe.set_adapters([name])
        self.pipe.fuse_lora(components=["unet"], lora_scale=weight, adapter_names=[name])

    def change(self, name: str, weight: float) -> None:
        self.pipe.unfuse_lora(components=["unet"])
        self.first(name, weight)

    def put_on(self, path: Path) -> None:
        self.load(path)
        self.first(path.stem, 1.0)

    def take_off(self) -> None:
        self.pipe.unfuse_lora(components=["unet"])

    def off_and_on(self, name: str) -> None:
        self.change(name, 1.0)

    def forget(self) -> None:
        if getattr(self.unet, "peft_config", None):
            self.pipe.unfuse_lora(components=["unet"])
            self.pipe.unload_lora_weights()

    def drift(self) -> int:
        """How many values are no longer those of the file."""
        self.forget()
        now = self.unet.state_dict()
        return sum(int((now[name].cpu() != tensor).sum()) for name, tensor in load_file(self.path).items())


class Contest:
    """Both sides take turns, each round from another one on; what brings them to where an operation starts is not counted."""

    def __init__(self, ours: Ours, theirs: Theirs, rounds: int) -> None:
        self.sides: dict[str, Ours | Theirs] = {"ours": ours, "theirs": theirs}
        self.device = ours.bundle.device
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
        sides: int = 2,
        rounds: int = 99,
    ) -> tuple[float, float]:
        """Adds a row. `start`: bare, or the name of the file that is worn, with all of `files` but the LCM-LoRA resident."""
        names = ["ours", "theirs"][:sides]
        spent: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(min(rounds, self.rounds)):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                side = self.sides[name]
                side.forget()
                if files:
                    for resident in ("style", "other"):
                        side.load(files[resident])
                    side.first(start, 1.0)
                began = clock(self.device)
                operation(side)
                spent[name].append(clock(self.device) - began)
        ours, theirs = median(spent["ours"]), median(spent.get("theirs", [0.0]))
        contested = (theirs, theirs / ours) if sides == 2 else ("-", "-")
        self.rows.append((what, ours, *contested, f"at least {goal}" if goal else "-"))
        return ours, theirs
