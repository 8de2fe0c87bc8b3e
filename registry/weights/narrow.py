"""Weights stored narrower than anything computes: they stay so in memory, and are widened whenever their module reads them.

ComfyUI's scaled float8 files have a number beside each matrix that its values are multiplied by, so that they fill float8's range.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

NARROW = frozenset({torch.float8_e4m3fn, torch.float8_e5m2})
"""A byte each. Every value of theirs is one of float16, bfloat16 and float32, too: widening loses nothing."""

_VALUES = {narrow: torch.arange(256, dtype=torch.uint8).view(narrow).float() for narrow in NARROW}
"""Of each byte."""


def resident_dtype(name: str, shape: tuple[int, ...], stored: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    """In what a bundle of `dtype` keeps the canonical tensor `name`: narrow matrices, convolutions and embeddings as they are stored.

    The rest is small. So is the VAE, which leaves `dtype` where that overflows.
    """
    stays = stored in NARROW and len(shape) > 1 and name.endswith(".weight") and not name.startswith("vae.")
    return stored if stays else dtype


def widen(tensor: Tensor, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    """In `dtype`, exactly; a narrow tensor times its `scale`, rounded once. A CPU looks narrow values up: torch takes 5 times as long to
    convert e4m3, 1.5 times for e5m2."""
    if tensor.dtype not in NARROW:
        return tensor.to(dtype)
    if tensor.device.type != "cpu":
        wide = tensor.to(dtype)
        return wide if scale == 1 else wide.mul_(scale)  # multiplied in float32, whatever the dtype
    which = tensor.view(torch.uint8).flatten().int()
    return (_VALUES[tensor.dtype] * scale).to(dtype).index_select(0, which).view(tensor.shape)


def widen_when_read(module: nn.Module, dtype: torch.dtype, scale: float = 1.0) -> None:
    """A narrow `weight` of the module is widened from now on for whoever reads it: made anew each time, one layer at a time.

    The parameter itself is out of the module's `parameters()`, by which diffusers and transformers tell in what a model computes.
    """
    weight = module._parameters.get("weight")
    if weight is not None and weight.dtype in NARROW:
        del module._parameters["weight"]
        vars(module).update(_narrow=weight, _wide=dtype, _scale=scale)
        kind: Any = type(module)
        module.__class__ = _widening(kind)


@cache
def _widening(kind: Any) -> Any:
    """The same class, but that its `weight` is a property."""
    return type(kind.__name__, (kind,), {"weight": property(_widened)})


def _widened(module: Any) -> Tensor:
    return widen(module._narrow, module._wide, module._scale)
