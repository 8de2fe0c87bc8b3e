"""A safetensors file's tensors where they lie: what its header says of them, and all of them on a device in one read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import Tensor

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

Entries = Mapping[str, Mapping[str, Any]]


def entries(path: Path) -> tuple[Entries, int]:
    """A checked file's header as it stands there, and where its tensor bytes begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        found = orjson.loads(file.read(length))
    found.pop("__metadata__", None)
    return found, 8 + length


def read_whole(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Every tensor that has one of DTYPES, in one allocation: a GPU is waited for once, not once a tensor.

    Raises UnusableFile: the file ends early.
    """
    found, start = entries(path)
    end = max((entry["data_offsets"][1] for entry in found.values()), default=0)
    whole = torch.empty(end, dtype=torch.uint8, device=device)
    read([Move(path, start, torch.uint8, end, whole)], device)
    return {
        name: typed(whole[slice(*entry["data_offsets"])], DTYPES[entry["dtype"]]).view(entry["shape"])
        for name, entry in found.items()
        if entry["dtype"] in DTYPES
    }
