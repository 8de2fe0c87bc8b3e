"""Weights that a quantiser saved in pieces, read as the plain weights that they stand for.

torchao's `img_in.weight:qdata` and `img_in._weight_qdata`, and quanto's `img_in.weight._data`, are `img_in.weight`, and of its shape, as a
value takes a byte. The scales and zero points beside them say nothing of the network.
"""

from __future__ import annotations

from dataclasses import replace

from probes.header import Header

ENDING = "data"
"""What the names of such weights end with, whoever wrote them: looked for first, as it costs next to nothing."""
_PIECES = ((".weight:", "qdata"), ("._weight_", "qdata"), (".weight._", "data"))
"""What follows the layer's name in all pieces of its weight, and then, in that of the values."""


def plain(header: Header) -> Header:
    """The header with every weight that is in pieces under its own name, in its place; the same header where none is."""
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
