"""Adapters put on and taken off: patched copies of the touched weights, made from the pristine base, and bound in its place.

The base is never written. Taking an overlay off exchanges pointers, so that the base comes back bit for bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from math import prod

import torch
from torch import Tensor, nn

from registry.weights.adapters import Factors, Layer, Strength
from registry.weights.algorithms import Shape
from registry.weights.bundle import Bundle
from registry.weights.fused import fused, takes
from registry.weights.narrow import NARROW
from registry.weights.neighbours import adjacent, neighbours
from registry.weights.sidecar import Sidecar, attach, can_attach, sidecar_bytes
from registry.weights.work import Work, change_of, factors_of, work_on

BATCH_BYTES = 128 * 2**20
"""Equal shapes are patched in one launch; of those that do not lie evenly in the bundle, and are gathered for it, up to this much."""
CHUNK_BYTES = 512 * 2**10
CHUNK_ROWS = 64
"""Without `fused` float32 is made in chunks of so many bytes, which a core's own cache holds, but of no fewer rows, below which it is
slow."""

MATRIX_RANK = 48
"""From this rank on it is the product that takes the time, and a CPU's matrix instructions for bfloat16 outdo one pass over memory."""


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
            patched[name] = _low_rank(bundle.wide(name), layers, _room(bundle, name, memory))
    for name, todo in work.items():
        if todo.others:
            patched[name] = _any(bundle, name, todo, _room(bundle, name, memory))
    return patched


def _room(bundle: Bundle, name: str, memory: Mapping[str, Tensor]) -> Tensor:
    kept = memory.get(name)
    if kept is not None:
        return kept
    return torch.empty_like(bundle.tensors[name], dtype=bundle.dtype_of(name), memory_format=torch.contiguous_format)


def _low_rank(base: Tensor, layers: Sequence[tuple[Layer, float]], out: Tensor) -> Tensor:
    """One layer on a CPU, where memory is the limit: in one pass over it, or at least added to while the cache holds it."""
    up, down, weight = factors_of(layers)
    base, flat = base.flatten(1), out.view(out.shape[0], -1)
    matrices = base.dtype == torch.bfloat16 and _multiplies_bfloat16()
    if takes(base, up.shape[1], flat) and not (matrices and up.shape[1] >= MATRIX_RANK) and (add := fused(base.dtype)):
        add(base, up, down, weight, flat)
        return out
    if matrices:
        torch.addmm(base, up.bfloat16(), down.bfloat16(), alpha=weight, out=flat)
        return out
    rows = min(base.shape[0], max(CHUNK_ROWS, CHUNK_BYTES // (4 * base.shape[1])))
    scratch = None if base.dtype == torch.float32 else torch.empty(rows, base.shape[1])
    for start in range(0, base.shape[0], rows):
        part = slice(start, start + rows)
        made = flat[part] if scratch is None else scratch[: base.shape[0] - start]
        made.copy_(base[part]).addmm_(up[part], down, alpha=weight)
        if scratch is not None:
            flat[part].copy_(made)
    return out


@cache
def _multiplies_bfloat16() -> bool:
    """The CPU has instructions that multiply bfloat16 and add up in float32; then addmm rounds once, as a GPU's does."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _any(bundle: Bundle, name: str, todo: Work, out: Tensor) -> Tensor:
    base = bundle.wide(name, torch.float32)
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
    """A number of launches that depends on the shapes, not on the layers: bases and factors lie one after another and are not gathered."""
    patched: dict[str, Tensor] = {}
    for names in _batches(bundle, work):
        up, down, weight = _factors_of_many([work[name] for name in names], bundle.dtype_of(names[0]))
        base = neighbours([bundle.wide(name).flatten(1) for name in names])
        kept = {name: memory[name] for name in names if name in memory}
        to = adjacent([tensor.flatten(1) for tensor in kept.values()]) if len(kept) == len(names) else None
        # tensor cores accumulate half precision in float32
        made = torch.baddbmm(base, up, down, alpha=weight, out=to)
        if to is None:
            views = made.view(len(names), *bundle.shapes[names[0]]).unbind()
            patched |= dict(zip(names, views, strict=True))
            if kept:
                torch._foreach_copy_(list(kept.values()), [patched[name] for name in kept])
        patched |= kept
    return patched


def _factors_of_many(
    layers: Sequence[Sequence[tuple[Layer, float]]], dtype: torch.dtype
) -> tuple[Tensor, Tensor, float]:
    """`factors_of` in `dtype` for many layers of equal shapes and ranks: up [count, out, rank], down [count, rank, in], and the weight of
    their product."""
    ups, downs, weights = [], [], []
    for nth in zip(*layers, strict=True):  # one adapter after another, each over all layers
        ups.append(neighbours([layer.parts["up"] for layer, _ in nth]).to(dtype))
        downs.append(neighbours([layer.parts["down"] for layer, _ in nth]).to(dtype))
        weights.append([weight for _, weight in nth])
    if len(ups) == 1 and len(set(weights[0])) == 1:
        return ups[0], downs[0], weights[0][0]
    scaled = [
        up * (each[0] if len(set(each)) == 1 else torch.tensor(each, dtype=up.dtype, device=up.device)[:, None, None])
        for up, each in zip(ups, weights, strict=True)
    ]
    return torch.cat(scaled, 2), torch.cat(downs, 1), 1.0


def _batches(bundle: Bundle, work: Mapping[str, list[tuple[Layer, float]]]) -> Iterator[list[str]]:
    """Names of tensors of one shape, dtype and equal ranks, in the bundle's order: all where they lie evenly, else up to BATCH_BYTES."""
    classes: dict[tuple[Shape, torch.dtype, tuple[int, ...]], list[str]] = defaultdict(list)
    for name in sorted(work, key=bundle.order.__getitem__):
        ranks = tuple(layer.rank for layer, _ in work[name])
        classes[bundle.shapes[name], bundle.dtype_of(name), ranks].append(name)
    for (shape, dtype, _), names in classes.items():
        gathered = adjacent([bundle.tensors[name] for name in names]) is None
        count = max(1, BATCH_BYTES // (dtype.itemsize * prod(shape))) if gathered else len(names)
        for start in range(0, len(names), count):
            yield names[start : start + count]


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a module reads a weight: its parameter, whose data is exchanged, and the module itself, for sidecars."""

    module: nn.Module
    parameter: nn.Parameter


Adapters = Mapping[str, tuple[Factors, Strength]]
Wanted = tuple[bool, tuple[tuple[str, Strength], ...]]
"""Merged or not, and each adapter's key with its strength."""


class Wearer:
    """What the modules bound to a bundle wear. Not thread-safe: one generation at a time.

    `stable`: for compiled graphs, which hold addresses: once touched, a weight stays at one address of its own, into which overlays, and
    the base again, are written. Otherwise taking off is an exchange of pointers; on a CPU the overlay's memory is then kept for the next
    one until `release`, since fresh memory takes as long as the overlay itself. Until the next one is written there it still holds the
    last set, which goes on again by an exchange of pointers.
    """

    def __init__(self, bundle: Bundle, slots: Mapping[str, Slot], *, stable: bool = False) -> None:
        self._bundle = bundle
        self._slots = slots
        self._stable = stable
        self._keeps = bundle.device.type == "cpu" and not stable
        self._worn: Wanted = (True, ())
        self._patched: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}
        self._kept_whole: Wanted | None = None
        self._sidecars: list[Sidecar] = []

    @property
    def nbytes(self) -> int:
        """Memory that the overlay and the sidecars take now, with what is kept for the next overlay."""
        overlays = sum(tensor.nbytes for tensor in (*self._patched.values(), *self._kept.values()))
        return overlays + sum(sidecar.nbytes for sidecar in self._sidecars)

    def needs(self, adapters: Adapters, *, merged: bool = True) -> int:
        """What `nbytes` would be with this set."""
        worn = _worn(adapters)
        if _wanted(worn, merged) == self._worn:
            return self.nbytes
        work = work_on(list(worn.values()))
        beside = self._beside(work, merged=merged)
        names = work.keys() - beside
        if self._stable or (self._keeps and merged):
            names |= self._patched.keys() | self._kept.keys()
        shapes, dtype_of = self._bundle.shapes, self._bundle.dtype_of
        patched = sum(prod(shapes[name]) * dtype_of(name).itemsize for name in names)
        return patched + sum(sidecar_bytes(shapes[name], dtype_of(name), work[name]) for name in beside)

    def wear(self, adapters: Adapters, *, merged: bool = True) -> None:
        """Exactly these adapters (by key) from now on; the same as before: nothing to do.

        Not merged: matrices and convolutions stay the base's, and a sidecar beside each adds what the adapters change. So do narrow ones
        always: patched they would be as large as if they had been widened.
        """
        worn = _worn(adapters)
        wanted = _wanted(worn, merged)
        if wanted == self._worn:
            return
        work = work_on(list(worn.values()))
        beside = self._beside(work, merged=merged)
        patch = {name: todo for name, todo in work.items() if name not in beside}
        self._take_off(patch.keys())
        if not merged:  # memory is short
            self.release()
        try:
            self._put_on(wanted, patch)
            for name in beside:
                self._sidecars.append(attach(self._slots[name].module, self._bundle, name, work[name]))
        except BaseException:
            self.take_off()
            raise
        self._worn = wanted

    def wears(self, adapters: Adapters, *, merged: bool = True) -> bool:
        """Whether it is exactly these, put on so."""
        return self._worn == _wanted(_worn(adapters), merged)

    def _beside(self, work: Mapping[str, Work], *, merged: bool = True) -> set[str]:
        stay = {name for name in work if self._bundle.tensors[name].dtype in NARROW} if merged else work
        return {name for name in stay if can_attach(self._slots[name].module, name)}

    def _put_on(self, wanted: Wanted, work: Mapping[str, Work]) -> None:
        if not work:
            return
        if wanted == self._kept_whole:
            made = {name: self._kept[name] for name in work}
        else:
            self._kept_whole = None
            made = overlay(self._bundle, work, self._patched if self._stable else self._kept)
        self._patched |= made
        self._kept = {name: tensor for name, tensor in self._kept.items() if name not in made}
        for name, tensor in made.items():
            self._slots[name].parameter.data = tensor

    def take_off(self) -> None:
        """The base itself again."""
        self._take_off(frozenset())

    def _take_off(self, but: Set[str]) -> None:
        """`but`: what is written to in a moment need not be the base's in between."""
        was, self._worn = self._worn, (True, ())
        for sidecar in self._sidecars:
            sidecar.handle.remove()
        self._sidecars = []
        if self._stable:
            for name in self._patched.keys() - but:
                self._patched[name].copy_(self._bundle.tensors[name])
            return
        for name in self._patched:
            self._slots[name].parameter.data = self._bundle.tensors[name]
        if self._keeps and self._patched:
            self._kept |= self._patched
            self._kept_whole = was
        self._patched = {}

    def release(self) -> int:
        """Gives back what is kept for the next overlay; returns how many bytes that was."""
        freed = sum(tensor.nbytes for tensor in self._kept.values())
        self._kept, self._kept_whole = {}, None
        return freed


def _worn(adapters: Adapters) -> dict[str, tuple[Factors, Strength]]:
    return {key: adapter for key, adapter in sorted(adapters.items()) if not adapter[1].off}


def _wanted(worn: Adapters, merged: bool = True) -> Wanted:
    """What tells one set from another: none is the same merged and unmerged."""
    return merged or not worn, tuple((key, strength) for key, (_, strength) in worn.items())
