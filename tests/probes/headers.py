"""Header fixtures on disk, and whole files made of headers: what the probe's tests read."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probes import Header, TensorSpec
from probes.containers.safetensors import BITS

FOLDER = Path(__file__).parent / "fixtures" / "headers"
Tensors = Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Fixture:
    """A header and what it is. `expect`: fields of the Report; `hints`: what the file comes with."""

    tensors: Tensors
    expect: Mapping[str, Any]
    metadata: Mapping[str, str] = field(default_factory=dict)
    made_by: str = ""

    @property
    def header(self) -> Header:
        return Header(
            {name: TensorSpec(dtype, tuple(shape)) for name, (dtype, shape) in self.tensors.items()}, self.metadata
        )


def save(name: str, fixture: Fixture) -> int:
    """Writes one fixture, compactly and the same bytes each time; returns the bytes written."""
    document = {
        "made_by": fixture.made_by,
        "expect": dict(fixture.expect),
        "metadata": dict(fixture.metadata),
        "tensors": {key: [dtype, list(shape)] for key, (dtype, shape) in fixture.tensors.items()},
    }
    FOLDER.mkdir(exist_ok=True)
    packed = gzip.compress(json.dumps(document, separators=(",", ":")).encode(), compresslevel=9, mtime=0)
    (FOLDER / f"{name}.json.gz").write_bytes(packed)
    return len(packed)


def load(name: str) -> Fixture:
    document = json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
    tensors = {key: (dtype, tuple(shape)) for key, (dtype, shape) in document["tensors"].items()}
    return Fixture(tensors, document["expect"], document["metadata"], document["made_by"])


def names() -> list[str]:
    return sorted(path.name.removesuffix(".json.gz") for path in FOLDER.glob("*.json.gz"))


def safetensors_bytes(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """The first bytes of a safetensors file, its header and nothing after it."""
    document: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = BITS[dtype] * math.prod(shape) // 8
        document[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(document, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text


def data_size(tensors: Tensors) -> int:
    return sum(BITS[dtype] * math.prod(shape) // 8 for dtype, shape in tensors.values())


def write_sparse(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> Path:
    """A file of the true size that takes a header's room on disk: the tensors are a hole."""
    head = safetensors_bytes(tensors, metadata)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + data_size(tensors))
    return path
