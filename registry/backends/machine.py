"""The machine under a backend: its device, its memory, its clock."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from registry.errors import InvalidRequest, OutOfMemory

_NO_MEMORY = ("defaultcpuallocator", "out of memory")
"""torch reports a failed allocation on the CPU, of pinned memory and on MPS as a RuntimeError with these words."""


@dataclass
class Stopwatch:
    """Seconds by phase, as `now` counts them; a GPU is waited for, since it works behind the caller's back."""

    device: torch.device
    now: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        self._start = self._last = self.now()
        self._laps: dict[str, float] = dict.fromkeys(("load", "adapters", "wait", "encode", "denoise", "decode"), 0.0)

    def lap(self, phase: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = self.now()
        self._laps[phase] += now - self._last
        self._last = now

    def seconds(self) -> Mapping[str, float]:
        return {**self._laps, "total": self._last - self._start}


@contextmanager
def memory_errors() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        known = not isinstance(error, RuntimeError) or isinstance(error, torch.OutOfMemoryError)
        if not known and not any(words in str(error).lower() for words in _NO_MEMORY):
            raise
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise OutOfMemory(
            "The device has too little memory for this: ask for a smaller picture, or fewer LoRAs."
        ) from error


def torch_device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def torch_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InvalidRequest(f"{name!r} is no floating point dtype of torch.", field="dtype")
    if dtype.itemsize < 2:
        raise InvalidRequest(
            f"{name!r} can be stored, not computed in; files in it are run in float16 or wider.", field="dtype"
        )
    return dtype


def describe_device(name: str) -> tuple[str, bool]:
    """What the setting comes to, in words, and whether it is slow. Raises InvalidRequest for one that is not there."""
    try:
        device = torch_device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: "Torch not compiled with CUDA enabled"
        raise InvalidRequest(f"The device {name!r} cannot be used: {error}", field="device") from error
    if device.type != "cuda":
        return f"{device}, {machine_bytes() / 2**30:.0f} GiB of memory", device.type == "cpu"
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return f"{device}, {name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free", False


def torch_compiler(name: str | None) -> str | None:
    """Raises InvalidRequest: torch has no compiler of that name."""
    if name is None:
        return None
    if name not in torch.compiler.list_backends(exclude_tags=()):
        raise InvalidRequest(
            f"torch has no compiler {name!r}; there are {', '.join(torch.compiler.list_backends())}.", field="compile"
        )
    # compiled code otherwise takes no notice of hooks that come later, and sidecars are hooks
    torch._dynamo.config.skip_nnmodule_hook_guards = False
    return name


def machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def default_host_budget(device: torch.device) -> int:
    return machine_bytes() // 4 if device.type == "cuda" else 0


def default_budget(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * 0.8)
    return machine_bytes() // 2
