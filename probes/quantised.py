"""Weights that a quantiser saved in pieces, read as the plain weights that they stand for.

torchao's `img_in.weight:qdata` and `img_in._weight_qdata`, and quanto's `img_in.weight._data`, are `img_in.weight`, and of its shape, as a
value takes a byte. SDNQ keeps the name: `img_in.weight` has groups of columns for columns, or is packed into bytes, `img_in.scale` beside
it has its rows. The scales, zero points and low-rank rests beside them say nothing of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from probes.header import Header, TensorSpec
from probes.names import Names

_DATA = "data"
"""What the names of weights under other names end with, whoever wrote them: looked for first, as it costs next to nothing."""
_PIECES = ((".weight:", "qdata"), ("._weight_", "qdata"), (".weight._", "data"))
"""What follows the layer's name in all pieces of its weight, and then, in that of the values."""
_SCALE = ".scale"
_BESIDE = (_SCALE, ".zero_point", ".svd_up", ".svd_down")
"""SDNQ's pieces beside a weight."""
_PACKED = {1: 2.0, 7: 8 / 7, 3: 4 / 3, 5: 8 / 5}
"""Bytes that SDNQ packs values into at a time (4, 7, 6 and 5 bits each) -> values in a byte."""


def plain(header: Header, names: Names) -> Header:
    """The header with every weight that is in pieces under its own name, in its place; the same header where none is."""
    return _ungrouped(_renamed(header) if names.ending(_DATA) else header, names)


def _renamed(header: Header) -> Header:
    layers = {
        name.removesuffix(values): f"{name.removesuffix(mark + values)}.weight"
        for mark, values in _PIECES
        for name in header.tensors
        if name.endswith(mark + values)
    }
    if not layers:
        return header
    found = {}
    for name, spec in header.tensors.items():
        layer, piece = _split(name)
        if layer not in layers:
            found[name] = spec
        elif piece in ("qdata", "data"):
            found[layers[layer]] = spec
    return replace(header, tensors=found)


def _split(name: str) -> tuple[str, str]:
    """`img_in.weight:scale` as `img_in.weight:` and `scale`; a name that is of no piece has no first part."""
    for mark, _ in _PIECES:
        layer, found, piece = name.rpartition(mark)
        if found:
            return layer + mark, piece
    return "", name


def _ungrouped(header: Header, names: Names) -> Header:
    shapes: dict[str, tuple[int, ...]] = {}
    beside: set[str] = set()
    for name in names.ending(_SCALE):
        layer = name.removesuffix(_SCALE)
        if f"{layer}.weight" in header.tensors:
            shape = _shape(header.tensors[f"{layer}.weight"], header.tensors[name].shape)
            if shape is not None:
                shapes[f"{layer}.weight"] = shape
                beside.update(layer + piece for piece in _BESIDE)
    if not shapes:
        return header
    return replace(header, tensors=_reshaped(header.tensors, shapes, beside))


def _reshaped(
    tensors: Mapping[str, TensorSpec], shapes: Mapping[str, tuple[int, ...]], beside: set[str]
) -> Mapping[str, TensorSpec]:
    return {
        name: TensorSpec(spec.dtype, shapes.get(name, spec.shape))
        for name, spec in tensors.items()
        if name not in beside
    }


def _shape(weight: TensorSpec, scale: tuple[int, ...]) -> tuple[int, ...] | None:
    """A weight's own shape: [out, in], and of a convolution with its kernel after that. Its scales are [out, 1] or [out, groups, 1], the
    kernel after that, and [1, out] where the weight is turned. None where they do not belong together."""
    stored = weight.shape
    if not stored or len(scale) < 2 or not all((*stored, *scale)):
        return None
    if len(stored) == 2 and scale == (1, stored[1]) and weight.dtype != "U8":
        return stored[1], stored[0]
    rows, kernel = scale[0], scale[3:] if len(scale) in (3, 5) else scale[2:]
    if stored[0] == rows and len(stored) == len(scale):
        inner = stored[1] * stored[2] if len(scale) in (3, 5) else stored[1]
        return rows, inner, *kernel
    per_byte = _PACKED.get(stored[1] if len(stored) == 2 else 1)
    if weight.dtype != "U8" or len(stored) > 2 or per_byte is None:
        return None
    values, each = round(prod(stored) * per_byte), rows * prod(kernel)
    return (rows, values // each, *kernel) if values % each == 0 else None
