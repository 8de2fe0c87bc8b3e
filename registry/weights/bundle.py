"""A checkpoint's tensors on a device: loaded once, then never written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from blake3 import blake3
from safetensors import SafetensorError, safe_open
from torch import Tensor

from probes import TensorSpec
from registry.compatibility import checkpoint_tensors
from registry.errors import NotGenerable, UnusableFile
from registry.holders import GoOn
from registry.weights.files import Lent, WeightFile, gone, weight_files
from registry.weights.names import Source, canonical_sources, scales_of
from registry.weights.narrow import NARROW, resident_dtype, widen
from registry.weights.reading import Move, read
from registry.weights.stored import DTYPES, entries
from registry.weights.transformers import WHOLE


@dataclass(frozen=True, eq=False)
class Bundle:
    """Canonical name -> tensor, all on `device`, of `dtype`, or as narrow as stored (see `narrow`). Whoever works with them must not write
    to them. `scales`: what narrow ones are multiplied by, where not 1. `precise`: those that are worked with in float32 all the same.

    torch has no read-only tensors: `fingerprint` proves afterwards that nobody did.
    """

    digest: str
    device: torch.device
    dtype: torch.dtype
    tensors: Mapping[str, Tensor]
    scales: Mapping[str, float] = field(default_factory=dict)
    precise: frozenset[str] = frozenset()

    @cached_property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Names and shapes, as `registry.compatibility` takes them."""
        return {
            name: TensorSpec(_DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))
            for name, tensor in self.tensors.items()
        }

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: spec.shape for name, spec in self.specs.items()}

    @cached_property
    def order(self) -> Mapping[str, int]:
        """Canonical name -> place: tensors of one shape and kind of layer follow each other as they do in the allocation."""
        return {name: place for place, name in enumerate(self.tensors)}

    def dtype_of(self, name: str) -> torch.dtype:
        """In which the tensor is worked with."""
        return torch.float32 if name in self.precise else self.dtype

    def wide(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """The tensor in `dtype`; None: in which it is worked with."""
        return widen(self.tensors[name], dtype or self.dtype_of(name), self.scales.get(name, 1.0))

    @cached_property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def to(self, device: torch.device, *, pinned: bool = False, go_on: GoOn = lambda: None) -> Bundle:
        """A copy on another device, there in one allocation a dtype.

        `pinned`: in page-locked host memory, from which a GPU reads at full speed. Raises whatever `go_on` raises between two tensors.
        """
        room = _room({name: (tuple(t.shape), t.dtype) for name, t in self.tensors.items()}, device, pinned)
        for name, tensor in self.tensors.items():
            go_on()
            room[name].copy_(tensor, non_blocking=pinned)
        if self.device.type == "cuda" or device.type == "cuda":
            torch.cuda.synchronize()
        return replace(self, device=device, tensors=MappingProxyType(room))

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


_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


Wanted = Callable[[str], bool]
"""Whether the tensor of a canonical name, or one of a component, is read."""
Precise = Callable[[str], bool]
"""Whether the tensor of a canonical name is kept in float32, in a bundle of half precision."""


def _none(_: str) -> bool:
    return False


def _all(_: str) -> bool:
    return True


def bundle_bytes(checkpoint: Path, dtype: torch.dtype, precise: Precise = _none, lent: Sequence[Lent] = ()) -> int:
    """What the checkpoint's bundle will occupy, from its headers and those of what it is lent."""
    return sum(
        prod(spec.shape)
        * resident_dtype(
            name, spec.shape, DTYPES.get(spec.dtype, dtype), torch.float32 if precise(name) else dtype
        ).itemsize
        for name, spec in checkpoint_tensors(checkpoint, lent).items()
    )


def _room(
    wanted: Mapping[str, tuple[tuple[int, ...], torch.dtype]], device: torch.device, pinned: bool = False
) -> dict[str, Tensor]:
    """Views for tensors of these shapes and dtypes, of one allocation a dtype: those of one shape and one kind of layer are neighbours, so
    that they can be patched in one launch without being gathered."""
    views: dict[str, Tensor] = {}
    for dtype in {dtype for _, dtype in wanted.values()}:
        shapes = {name: shape for name, (shape, own) in wanted.items() if own == dtype}
        align = ALIGNMENT // dtype.itemsize
        offsets: dict[str, int] = {}
        end = 0
        for name in sorted(shapes, key=lambda name: (shapes[name], name.split(".")[-2:], name)):
            offsets[name] = end
            end += -(-prod(shapes[name]) // align) * align
        whole = torch.empty(end, dtype=dtype, device=device, pin_memory=pinned)
        views |= {name: whole[at : at + prod(shapes[name])].view(shapes[name]) for name, at in offsets.items()}
    return views


ALIGNMENT = 256
"""Bytes: what CUDA aligns its own allocations to."""


def load_bundle(
    checkpoint: Path,
    digest: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    mapped: bool = True,
    precise: Precise = _none,
    go_on: GoOn = lambda: None,
    lent: Sequence[Lent] = (),
) -> Bundle:
    """Reads a diffusers folder or a single safetensors file, and the components that others have `lent` it.

    On a CPU a tensor that need not be converted stays in the mapped file, and takes no memory of its own; everything else is read into
    one allocation a dtype and converted there. `mapped` False: all of it is. Whoever writes to a mapped file changes the bundle, and
    whoever shortens it ends the process (SIGBUS).

    Raises FileMissing, UnusableFile (damaged), NotGenerable (not safetensors, or names of no known layout), and whatever `go_on` raises,
    which is called between two tensors or blocks of them.
    """
    tensors: dict[str, Tensor] = {}
    found: dict[str, _Stored] = {}
    scales: dict[str, float] = {}
    sources: list[tuple[WeightFile, Wanted, bool]] = [(file, _all, mapped) for file in weight_files(checkpoint)]
    sources += [(file, other.lends, other.managed) for other in lent for file in weight_files(other.path)]
    for file, wanted, may_map in sources:
        if file.component is not None and not wanted(file.component):
            continue
        if file.path.suffix != ".safetensors":
            raise NotGenerable(
                f"{file.path.name} is not a safetensors file; only those can be loaded.", path=str(file.path)
            )
        there, rest, factors = _examine(file, dtype, precise, go_on, wanted, mapped=may_map and device.type == "cpu")
        tensors |= there
        found |= rest
        scales |= factors
    if not tensors and not found:
        raise NotGenerable(
            f"The tensor names in {checkpoint.name} belong to no layout that is known here.", path=str(checkpoint)
        )
    if found:
        room = _room({name: (stored.shape, stored.becomes) for name, stored in found.items()}, device)
        read((move for name, stored in found.items() for move in stored.moves(room[name])), device, go_on)
        tensors |= room
    kept = frozenset(filter(precise, tensors))
    return Bundle(digest, device, dtype, MappingProxyType(tensors), MappingProxyType(scales), kept)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A canonical tensor in a file: where its bytes begin, and what it becomes."""

    path: Path
    offset: int
    dtype: torch.dtype
    becomes: torch.dtype
    source: Source
    stored: tuple[int, ...]
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape(self.stored)

    def moves(self, to: Tensor) -> Iterator[Move]:
        row = prod(self.stored[1:])
        begin, end = (0, 1) if not self.stored else self.source.span(self.stored[0])
        columns = self.stored[1] if self.source.transposed else None
        flat, middle = to.view(-1), (begin + end) // 2
        parts = [(begin, end)] if not self.source.swapped else [(middle, end), (begin, middle)]
        done = 0
        for first, last in parts:
            count = (last - first) * row
            offset = self.offset + first * row * self.dtype.itemsize
            yield Move(self.path, offset, self.dtype, count, flat[done : done + count], columns, self.scale)
            done += count


def _examine(
    file: WeightFile,
    dtype: torch.dtype,
    precise: Precise,
    go_on: GoOn,
    wanted: Wanted,
    *,
    mapped: bool,
) -> tuple[dict[str, Tensor], dict[str, _Stored], dict[str, float]]:
    """By canonical name: tensors in the mapped file, what has to be read, and the scales of what stays narrow."""
    there: dict[str, Tensor] = {}
    rest: dict[str, _Stored] = {}
    scales: dict[str, float] = {}
    try:
        with safe_open(file.path, framework="pt", device="cpu") as stored:  # which checks offsets and shapes
            found, start = entries(file.path)
            for name, source in canonical_sources(found, file.component).items():
                go_on()
                if not wanted(name):
                    continue
                entry = found[source.name]
                kept = DTYPES.get(entry["dtype"])
                if kept is None:
                    raise NotGenerable(
                        f"{file.path.name} has tensors of {entry['dtype']}, which cannot be run.", path=str(file.path)
                    )
                shape = tuple(entry["shape"])
                becomes = resident_dtype(name, source.shape(shape), kept, torch.float32 if precise(name) else dtype)
                scale = next((_scale(stored, key, file) for key in scales_of(source.name) if key in found), 1.0)
                if scale != 1 and becomes in NARROW:
                    scales[name], scale = scale, 1.0
                if mapped and kept == becomes and scale == 1 and not (source.transposed or source.swapped):
                    there[name] = _canonical(stored.get_tensor(source.name), source)
                else:
                    offset = start + entry["data_offsets"][0]
                    rest[name] = _Stored(file.path, offset, kept, becomes, source, shape, scale)
    except FileNotFoundError as error:
        raise gone(file.path) from error
    except SafetensorError as error:
        raise UnusableFile(f"{file.path.name} cannot be read: {error}", path=str(file.path)) from error
    return there, rest, scales


def _scale(stored: Any, key: str, file: WeightFile) -> float:
    scale = stored.get_tensor(key)
    if scale.numel() != 1:
        raise NotGenerable(
            f"{file.path.name} is quantised with a scale for each part of a matrix ({key} is {list(scale.shape)}), which cannot be run; "
            "take the file in float16, bfloat16, or in float8 with one scale for each matrix.",
            path=str(file.path),
        )
    return float(scale.item())


def _canonical(tensor: Tensor, source: Source) -> Tensor:
    if source.rows != WHOLE:
        begin, end = source.span(tensor.shape[0])
        return tensor[begin:end]
    return tensor.reshape(tensor.shape[:2]) if source.linear else tensor
