"""Tensors of one shape that lie one after another in one allocation: a stack of them is then a view, and nothing is copied."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def neighbours(tensors: Sequence[Tensor]) -> Tensor:
    """[count, *shape] of contiguous tensors of one shape and dtype: a view if they lie at equal distances, else a copy."""
    view = adjacent(tensors)
    return torch.stack(list(tensors)) if view is None else view


def adjacent(tensors: Sequence[Tensor]) -> Tensor | None:
    """The view, or None: they do not lie so."""
    first = tensors[0]
    if len(tensors) == 1:
        return first[None]
    steps = {after.data_ptr() - before.data_ptr() for before, after in pairwise(tensors)}
    owner = first.untyped_storage().data_ptr()
    if len(steps) != 1 or any(tensor.untyped_storage().data_ptr() != owner for tensor in tensors):
        return None
    step = steps.pop() // first.dtype.itemsize
    if step < first.numel():
        return None
    return first.as_strided((len(tensors), *first.shape), (step, *first.stride()))
