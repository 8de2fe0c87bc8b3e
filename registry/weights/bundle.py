"""A checkpoint's tensors on a device: loaded once, then never written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from math import prod
from pathlib import Path
from types import MappingProxyType

import torch
from blake3 import blake3
from safetensors import SafetensorError, safe_open
from torch import Tensor

from probes import TensorSpec
from registry.compatibility import checkpoint_tensors
from registry.errors import NotGenerable, UnusableFile
from registry.weights.files import weight_files
from registry.weights.names import Source, canonical_sources


@dataclass(frozen=True, eq=False)
class Bundle:
    """Canonical name -> tensor, all on `device` with `dtype`. Whoever works with them must not write to them.

    torch has no read-only tensors: `fingerprint` proves afterwards that nobody did.
    """

    digest: str
    device: torch.device
    dtype: torch.dtype
    tensors: Mapping[str, Tensor]

    @cached_property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Names and shapes, as `registry.compatibility` takes them."""
        dtype = _DTYPE_NAMES.get(self.dtype, str(self.dtype))
        return {name: TensorSpec(dtype, tuple(tensor.shape)) for name, tensor in self.tensors.items()}

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: spec.shape for name, spec in self.specs.items()}

    def stacked(self, names: Sequence[str]) -> Tensor:
        """Tensors of one flattened shape as one [count, rows, columns]."""
        return torch.stack([self.tensors[name].flatten(1) for name in names])

    @cached_property
    def structure(self) -> str:
        """Equal for two bundles exactly if the same adapters fit them (same names and shapes)."""
        return sha256(repr([(name, spec.shape) for name, spec in sorted(self.specs.items())]).encode()).hexdigest()[:16]

    def fingerprint(self) -> str:
        """BLAKE3 over every tensor's name and bytes (hex). Reads them all: about a second for 4 GB on a CPU."""
        hasher = blake3()
        for name, tensor in sorted(self.tensors.items()):
            hasher.update(name.encode())
            hasher.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return hasher.hexdigest()


_DTYPE_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def bundle_bytes(checkpoint: Path, dtype: torch.dtype) -> int:
    """What the checkpoint's bundle will occupy, from its headers."""
    return sum(prod(spec.shape) for spec in checkpoint_tensors(checkpoint).values()) * dtype.itemsize


def load_bundle(checkpoint: Path, digest: str, device: torch.device, dtype: torch.dtype) -> Bundle:
    """Reads a diffusers folder or a single safetensors file.

    A tensor that has `dtype` already stays in the mapped file on a CPU, and takes no memory of its own.

    Raises FileMissing, UnusableFile (damaged), NotGenerable (not safetensors, or names of no known layout).
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(checkpoint):
        if file.path.suffix != ".safetensors":
            raise NotGenerable(
                f"{file.path.name} is not a safetensors file; only those can be loaded.", path=str(file.path)
            )
        try:
            with safe_open(file.path, framework="pt", device="cpu") as stored:
                for name, source in canonical_sources(stored.keys(), file.component).items():
                    tensors[name] = _canonical(stored.get_tensor(source.name), source).to(device, dtype).contiguous()
        except SafetensorError as error:
            raise UnusableFile(f"{file.path.name} cannot be read: {error}", path=str(file.path)) from error
    if not tensors:
        raise NotGenerable(
            f"The tensor names in {checkpoint.name} belong to no layout that is known here.", path=str(checkpoint)
        )
    return Bundle(digest, device, dtype, MappingProxyType(tensors))


def _canonical(tensor: Tensor, source: Source) -> Tensor:
    if source.third is not None:
        return tensor.chunk(3)[source.third]
    if source.linear:
        return tensor.reshape(tensor.shape[:2])
    return tensor.T if source.transposed else tensor
