"""A safetensors file's tensors: what its header says of them, and they themselves, mapped or read at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probes.json_text import loads
from registry.errors import UnusableFile
from registry.weights.reading import Move, read, typed

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
"""By the file format's names; those that weights can have."""

_EVERY = DTYPES | {
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}

Entries = Mapping[str, Mapping[str, Any]]


def entries(path: Path) -> tuple[Entries, int]:
    """A checked file's header as it stands there, and where its tensor bytes begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        found = loads(file.read(length))
    found.pop("__metadata__", None)
    return found, 8 + length


class Stored:
    """A checked file's tensors by name. `mapped`: views of the mapped file, for a CPU; else they are read into one allocation on the
    device, since a GPU is then waited for once and not once a tensor. Whoever shortens a mapped file ends the process (SIGBUS).

    Raises UnusableFile: the file ends early.
    """

    def __init__(self, path: Path, device: torch.device, *, mapped: bool) -> None:
        self._path = path
        self._entries, self._start = entries(path)
        size = path.stat().st_size
        if mapped:
            self._there = torch.from_file(str(path), size=size, dtype=torch.uint8)[self._start :]
        else:
            self._there = torch.empty(size - self._start, dtype=torch.uint8, device=device)
            read([Move(path, self._start, torch.uint8, size - self._start, self._there)], device)

    def tensor(self, name: str) -> Tensor:
        entry = self._entries[name]
        start, end = entry["data_offsets"]
        return typed(self._there[start:end], _EVERY[entry["dtype"]]).view(entry["shape"])

    def numbers(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Small tensors, on the CPU: whoever asks a GPU for a number waits for it."""
        if self._there.device.type == "cpu":
            return {name: self.tensor(name) for name in names}
        made = {}
        with self._path.open("rb") as file:
            for name in names:
                entry = self._entries[name]
                start, end = entry["data_offsets"]
                raw = bytearray(os.pread(file.fileno(), end - start, self._start + start))
                if len(raw) < end - start:
                    raise UnusableFile(f"{self._path.name} ends before {name}.", path=str(self._path))
                made[name] = torch.frombuffer(raw, dtype=_EVERY[entry["dtype"]]).view(entry["shape"])
        return made
