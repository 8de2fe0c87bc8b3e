"""Adapters that run beside a layer, unmerged: for bases that are kept narrow, and where an overlay has no room."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from registry.weights.algorithms import Shape
from registry.weights.bundle import Bundle
from registry.weights.work import Work, change_of, factors_of


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What runs beside a layer until `handle` is removed, and the bytes that it holds."""

    handle: RemovableHandle
    nbytes: int


def can_attach(module: nn.Module, name: str) -> bool:
    """Normalisations, embeddings and biases are small; they are patched even where the rest is not."""
    return isinstance(module, nn.Linear | nn.Conv2d) and name.endswith(".weight")


def sidecar_bytes(shape: Shape, dtype: torch.dtype, todo: Work) -> int:
    """What a sidecar holds: factors of all its adapters in the layer's own dtype. Other algorithms' parts are resident anyway."""
    return sum(layer.rank for layer, _ in todo.low_rank) * (shape[0] + prod(shape[1:])) * dtype.itemsize


def attach(module: nn.Module, bundle: Bundle, name: str, todo: Work) -> Sidecar:
    """From now on the module adds what the adapters change to what it gives; a low-rank product is never multiplied out.

    Other algorithms work their change out anew each time: slow, with one layer's change in memory at a time.
    """
    shape, dtype = bundle.tensors[name].shape, bundle.dtype_of(name)
    up = down = None
    if todo.low_rank:
        wide_up, wide_down, weight = factors_of(todo.low_rank)
        up = (wide_up * weight).to(dtype).view(*wide_up.shape, *(1 for _ in shape[2:]))
        down = wide_down.to(dtype).view(-1, *shape[1:])
    held = sum(part.nbytes for part in (up, down) if part is not None)

    def add(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        (x,) = args
        if up is not None and down is not None:
            output = output + _plain(up)(_like(module, x, down), up)
        for target, layer, weight in todo.others:
            output = output + _like(module, x, change_of(bundle, name, target, layer, weight).to(x.dtype))
        return output

    return Sidecar(module.register_forward_hook(add), held)


def _like(module: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """What the module does, with another weight and no bias."""
    if isinstance(module, nn.Conv2d):
        return functional.conv2d(x, weight, None, module.stride, module.padding, module.dilation, module.groups)
    return functional.linear(x, weight)


def _plain(weight: Tensor) -> Any:
    return functional.conv2d if weight.dim() == 4 else functional.linear
