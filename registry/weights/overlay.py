"""Adapters put on and taken off: patched copies of the touched weights, made from the pristine base, and bound in its place.

The base is never written. Taking an overlay off exchanges pointers, so that the base comes back bit for bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from registry.weights.adapters import Factors, Layer, Strength
from registry.weights.bundle import Bundle
from registry.weights.sidecar import attach, can_attach
from registry.weights.work import Work, change_of, factors_of, work_on

BATCH_BYTES = 128 * 2**20
"""Equal shapes are patched in one launch up to this much of them."""
CHUNK_BYTES = 512 * 2**10
CHUNK_ROWS = 64
"""A product on a CPU is made in chunks of so many bytes, which a core's own cache holds, but of no fewer rows, below which it is slow."""


def overlay(
    bundle: Bundle, work: Mapping[str, Work], memory: Mapping[str, Tensor], *, batched: bool | None = None
) -> dict[str, Tensor]:
    """Canonical name -> patched copy, for every tensor that is worked on; the bundle stays as it is.

    `memory`: tensors to write to where they have the name, of the bundle's shapes and dtype. Accumulated in float32, rounded once to the
    base's dtype. `batched`: equal shapes in one launch; None: on a GPU, where launches are what takes time.
    """
    plain = {name: todo.low_rank for name, todo in work.items() if not todo.others}
    patched: dict[str, Tensor] = {}
    if bundle.device.type != "cpu" if batched is None else batched:
        patched = _batched(bundle, plain, memory)
    else:
        for name, layers in plain.items():
            patched[name] = _low_rank(bundle.tensors[name], layers, _room(bundle, name, memory))
    for name, todo in work.items():
        if todo.others:
            patched[name] = _any(bundle, name, todo, _room(bundle, name, memory))
    return patched


def _room(bundle: Bundle, name: str, memory: Mapping[str, Tensor]) -> Tensor:
    kept = memory.get(name)
    return torch.empty_like(bundle.tensors[name], memory_format=torch.contiguous_format) if kept is None else kept


def _low_rank(base: Tensor, layers: Sequence[tuple[Layer, float]], out: Tensor) -> Tensor:
    """In chunks: the product is still in the cache when it is added to the base and rounded (15 % less time than addmm as a whole)."""
    up, down, weight = factors_of(layers)
    base, flat = base.flatten(1), out.view(out.shape[0], -1)
    rows = max(CHUNK_ROWS, CHUNK_BYTES // (4 * base.shape[1]))
    scratch = torch.empty(min(rows, base.shape[0]), base.shape[1])
    for start in range(0, base.shape[0], rows):
        part = slice(start, start + rows)
        product = scratch[: up[part].shape[0]]
        torch.mm(up[part], down, out=product)
        torch.add(base[part], product, alpha=weight, out=flat[part])
    return out


def _any(bundle: Bundle, name: str, todo: Work, out: Tensor) -> Tensor:
    base = bundle.tensors[name].float()
    changed = base.clone()
    if todo.low_rank:
        up, down, weight = factors_of(todo.low_rank)
        changed.flatten(1).addmm_(up, down, alpha=weight)
    for target, layer, weight in todo.others:
        changed += change_of(bundle, name, target, layer, weight)
    return out.copy_(changed)


def _batched(
    bundle: Bundle, work: Mapping[str, list[tuple[Layer, float]]], memory: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    patched: dict[str, Tensor] = {}
    for names in _batches(bundle, work):
        parts = [factors_of(work[name]) for name in names]
        up = torch.stack([up * weight for up, _, weight in parts]).to(bundle.dtype)
        down = torch.stack([down for _, down, _ in parts]).to(bundle.dtype)
        base = bundle.stacked(names)  # a view where the bundle was laid out by shape, as on a GPU
        made = torch.baddbmm(base, up, down)  # tensor cores accumulate half precision in float32
        views = [tensor.view(bundle.tensors[name].shape) for name, tensor in zip(names, made, strict=True)]
        if kept := [memory[name] for name in names if name in memory]:
            torch._foreach_copy_(kept, [view for name, view in zip(names, views, strict=True) if name in memory])
        patched |= {name: memory.get(name, view) for name, view in zip(names, views, strict=True)}
    return patched


def _batches(bundle: Bundle, work: Mapping[str, list[tuple[Layer, float]]]) -> Iterator[list[str]]:
    """Names of tensors of one flattened shape and total rank, in the bundle's order, up to BATCH_BYTES at a time."""
    classes: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for name in bundle.tensors:
        if layers := work.get(name):
            rows = bundle.tensors[name].shape[0]
            columns = bundle.tensors[name].numel() // rows
            classes[rows, columns, sum(layer.rank for layer, _ in layers)].append(name)
    for (rows, columns, _), names in classes.items():
        count = max(1, BATCH_BYTES // (bundle.dtype.itemsize * rows * columns))
        for start in range(0, len(names), count):
            yield names[start : start + count]


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a module reads a weight: its parameter, whose data is exchanged, and the module itself, for sidecars."""

    module: nn.Module
    parameter: nn.Parameter


class Wearer:
    """What the modules bound to a bundle wear. Not thread-safe: one generation at a time.

    `stable`: for compiled graphs, which hold addresses: once touched, a weight stays at one address of its own, into which overlays, and
    the base again, are written. Otherwise taking off is an exchange of pointers.
    """

    def __init__(self, bundle: Bundle, slots: Mapping[str, Slot], *, stable: bool = False) -> None:
        self._bundle = bundle
        self._slots = slots
        self._stable = stable
        self._worn: tuple[bool, tuple[tuple[str, Strength], ...]] = (True, ())
        self._patched: dict[str, Tensor] = {}
        self._sidecars: list[RemovableHandle] = []

    @property
    def nbytes(self) -> int:
        """Memory that the overlay takes now."""
        return sum(tensor.nbytes for tensor in self._patched.values())

    def needs(self, adapters: Mapping[str, tuple[Factors, Strength]]) -> int:
        """Bytes that an overlay of this set would take."""
        names = work_on(list(adapters.values())).keys() | (self._patched.keys() if self._stable else set())
        return sum(self._bundle.tensors[name].nbytes for name in names)

    def wear(self, adapters: Mapping[str, tuple[Factors, Strength]], *, merged: bool = True) -> None:
        """Exactly these adapters (by key) from now on; the same as before: nothing to do.

        Not merged: matrices and convolutions stay the base's, and a sidecar beside each adds what the adapters change.
        """
        worn = {key: adapter for key, adapter in sorted(adapters.items()) if not adapter[1].off}
        wanted = (merged or not worn, tuple((key, strength) for key, (_, strength) in worn.items()))
        if wanted == self._worn:
            return
        work = work_on(list(worn.values()))
        beside = set() if merged else {name for name in work if can_attach(self._slots[name].module, name)}
        memory = (
            self._patched if self._bundle.device.type == "cpu" else {}
        )  # fresh memory there costs more than the product
        memory = {name: tensor for name, tensor in memory.items() if name in work.keys() - beside}
        self.take_off()
        try:
            self._put_on({name: todo for name, todo in work.items() if name not in beside}, memory)
            for name in beside:
                self._sidecars.append(attach(self._slots[name].module, self._bundle, name, work[name]))
        except BaseException:
            self.take_off()
            raise
        self._worn = wanted

    def _put_on(self, work: Mapping[str, Work], memory: Mapping[str, Tensor]) -> None:
        if self._stable:
            for name in work.keys() - self._patched.keys():
                self._patched[name] = torch.empty_like(
                    self._bundle.tensors[name], memory_format=torch.contiguous_format
                )
            memory = self._patched
        if work:
            self._patched |= overlay(self._bundle, work, memory)
        for name in work:
            self._slots[name].parameter.data = self._patched[name]

    def take_off(self) -> None:
        """The base itself again."""
        self._worn = (True, ())
        for handle in self._sidecars:
            handle.remove()
        self._sidecars = []
        for name, tensor in self._patched.items():
            if self._stable:
                tensor.copy_(self._bundle.tensors[name])
            else:
                self._slots[name].parameter.data = self._bundle.tensors[name]
        if not self._stable:
            self._patched = {}
