"""What a set of adapters does to each weight, merged or beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from registry.weights.adapters import Factors, Layer, Strength
from registry.weights.bundle import Bundle
from registry.weights.modules import Target

Worn = Sequence[tuple[Factors, Strength]]


@dataclass(frozen=True, slots=True)
class Work:
    """All that a set does to one weight: low-rank layers with weight * scale, and the others with their targets and weights."""

    low_rank: list[tuple[Layer, float]]
    others: list[tuple[Target, Layer, float]]


def work_on(adapters: Worn) -> dict[str, Work]:
    """Canonical name -> what is to be done to it. A weight of 0 does nothing."""
    found: dict[str, Work] = defaultdict(lambda: Work([], []))
    for factors, strength in adapters:
        for target, layer in factors.layers.items():
            if (weight := strength.of(target[0])) == 0:
                continue
            if layer.low_rank:
                found[target[0]].low_rank.append((layer, weight * layer.scale))
                continue
            for name in target:
                found[name].others.append((target, layer, weight))
    return dict(found)


def factors_of(layers: Sequence[tuple[Layer, float]]) -> tuple[Tensor, Tensor, float]:
    """up [out, rank], down [rank, in] in float32, and the weight of up @ down. Several layers are concatenated along the rank, each
    with its weight in up; that of the whole is then 1."""
    if len(layers) == 1:
        ((layer, weight),) = layers
        return layer.parts["up"].float(), layer.parts["down"].float(), weight
    up = torch.cat([layer.parts["up"].float() * weight for layer, weight in layers], 1)
    return up, torch.cat([layer.parts["down"].float() for layer, _ in layers], 0), 1.0


def change_of(bundle: Bundle, name: str, target: Target, layer: Layer, weight: float) -> Tensor:
    """What a layer of any algorithm adds to `name`, which is all or a part of its target."""
    if target == (name,):
        return layer.change(bundle.wide(name, torch.float32), weight)
    stacked = torch.cat([bundle.wide(part, torch.float32) for part in target])
    before = sum(bundle.tensors[part].shape[0] for part in target[: target.index(name)])
    return layer.change(stacked, weight)[before : before + bundle.tensors[name].shape[0]]
