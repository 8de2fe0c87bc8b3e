"""Low-rank adapters in any published naming, brought to one form: modules with a path, widths and a rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import NamedTuple

from probes.adapter_names import (
    BOFT,
    DENOISER,
    FULL,
    GLORA,
    HRA,
    IA3,
    LOHA,
    LOKR,
    LORA,
    NORM,
    OFT,
    VERA,
    Place,
    arrange,
)
from probes.header import TensorSpec, once, shapes_of
from probes.names import names_in

Shape = tuple[int, ...]

_CROSS_ATTENTION = ("attn2_to_k", "attn2_to_v")


class Module(NamedTuple):
    """One adapted layer. Widths and rank are None where the parts at hand do not tell; `kernel` is (1, 1) or () for
    linear layers; `either` is the input's or the output's width, where only the tensor's data tells which."""

    component: str
    path: str
    kind: str
    inner: int | None = None
    outer: int | None = None
    rank: int | None = None
    kernel: Shape = ()
    parts: frozenset[str] = frozenset()
    either: int | None = None

    @property
    def widths(self) -> str:
        """For people, `320 -> 1280`; a side that the parts do not tell is a question mark."""
        if self.inner is None and self.outer is None and self.either is not None:
            return f"{self.either} on one side"
        return " -> ".join("?" if width is None else str(width) for width in (self.inner, self.outer))


@dataclass(frozen=True)
class Adapter:
    """Everything in a header that is an adapter. `others`: tensors that belong to none; `orphans`: halves of pairs."""

    modules: tuple[Module, ...] = ()
    denoiser: tuple[Module, ...] = ()  # those of the UNet or transformer
    others: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    layouts: frozenset[str] = frozenset()
    kohya_names: bool = False
    places: tuple[Place, ...] = ()

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """Path -> a tensor's name, for evidence."""
        return {place.path: place.names[place.form.main] for place in self.places}

    @property
    def ranks(self) -> frozenset[int]:
        return frozenset(m.rank for m in self.modules if m.rank is not None)

    @cached_property
    def layers(self) -> tuple[Module, ...]:
        """The denoiser's modules without normalisations, biases and tables, of which ComfyUI's extraction and LightX2V write
        whole differences beside the layers' factors."""
        return tuple([m for m in self.denoiser if m.kind != NORM])

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Where the layers are."""
        return tuple([m.path for m in self.layers])

    @cached_property
    def inners(self) -> tuple[int | None, ...]:
        return tuple([m.inner for m in self.layers])

    @cached_property
    def outers(self) -> tuple[int | None, ...]:
        return tuple([m.outer for m in self.layers])

    @cached_property
    def components(self) -> frozenset[str]:
        return frozenset([m.component for m in self.modules])

    @cached_property
    def cross_attention(self) -> tuple[Module, ...]:
        """The denoiser's layers that take in text, where their width is known."""
        return tuple([m for m in self.denoiser if m.path.endswith(_CROSS_ATTENTION) and m.inner is not None])


@once
def normalise(tensors: Mapping[str, TensorSpec]) -> Adapter:
    """Groups a header's tensors into adapter modules; an ordinary checkpoint comes back with all its tensors in
    `others`."""
    arrangement = arrange(names_in(tensors).names)
    shape = shapes_of(tensors)
    modules: list[Module] = []
    orphans: list[str] = []
    for component, path, form, names in arrangement.places:
        if form.pair is not None:
            down, up = form.pair
            plain = _pair(shape(names[down]), shape(names[up]))
            if plain is None:
                orphans.append(names[0])
            else:
                modules.append(Module(component, path, LORA, *plain, form.distinct))
            continue
        shapes = {role: shape(name) for role, name in zip(form.roles, names, strict=True) if role != "alpha"}
        made = _MAKERS[form.kind](shapes)
        if made is None:
            orphans.append(names[0])
            continue
        inner, outer, rank, kernel, real_kind = made
        either = max(_vector(shapes), default=None) if form.kind == IA3 else None
        modules.append(
            Module(component, path, real_kind or form.kind, inner, outer, rank, kernel, form.distinct, either)
        )
    used = {m.kind for m in modules}
    layouts = arrangement.layouts
    if modules and not used & {LOHA, LOKR, GLORA, OFT, BOFT, IA3} and used != {FULL}:
        layouts -= {"lycoris"}
    denoiser = tuple([m for m in modules if m.component == DENOISER])
    return Adapter(
        tuple(modules),
        denoiser,
        arrangement.others,
        tuple(orphans),
        layouts,
        arrangement.kohya_names,
        arrangement.places,
    )


# --- widths and rank per kind: shapes of the parts -> (inner, outer, rank, kernel, kind if it turns out to be another) ---

_Made = tuple[int | None, int | None, int | None, Shape, str]


def _axis(shape: Shape, axis: int) -> int | None:
    return shape[axis] if len(shape) > axis else None


def _lora(parts: Mapping[str, Shape]) -> _Made | None:
    if "embedding_down" in parts:
        down, up = parts["embedding_down"], parts.get("embedding_up")
        return None if up is None else (_axis(down, 1), _axis(up, 0), _axis(down, 0), (), "")
    down, up = parts.get("down", ()), parts.get("up", ())
    mid = parts.get("mid")
    if mid is not None:  # Tucker: down [r, in, 1, 1], mid [r, r, k, k], up [out, r, 1, 1]
        return (down[1], up[0], down[0], mid[2:], "") if _pair(down, up) else None
    made = _pair(down, up)
    return None if made is None else (*made, "")


def _pair(down: Shape, up: Shape) -> tuple[int, int, int, Shape] | None:
    """Widths, rank and kernel of most modules there are."""
    if len(down) < 2 or len(up) < 2:
        return None
    rank, ups = down[0], up[1]
    if not rank or not ups:
        return None
    if rank == ups or ups % rank == 0 or rank % ups == 0:
        # A fused projection adapted by parts has an up matrix for all of its k parts: [out, k * r].
        return down[1], up[0], rank, down[2:]
    return None


def _loha(parts: Mapping[str, Shape]) -> _Made | None:
    if not {"w1_a", "w1_b", "w2_a", "w2_b"} <= parts.keys():
        return None
    first, second = parts["w1_a"], parts["w1_b"]
    if len(first) < 2 or len(second) < 2:
        return None
    core = parts.get("t1")
    if core is not None:  # Tucker: t1 [r, r, k, k], w1_a [r, out], w1_b [r, in]
        return second[1], first[1], core[0], core[2:], ""
    return second[1], first[0], first[1], (), ""


def _lokr(parts: Mapping[str, Shape]) -> _Made | None:
    left, right = _factor(parts, "w1"), _factor(parts, "w2")
    if left is None or right is None:
        return None
    ranks = [_axis(parts[name], 1) for name in ("w1_a", "w2_a") if name in parts and "t2" not in parts]
    core = parts.get("t2")
    kernel = core[2:] if core is not None else right[2:]
    return left[1] * right[1], left[0] * right[0], (core[0] if core else next(iter(ranks), None)), kernel, ""


def _factor(parts: Mapping[str, Shape], name: str) -> Shape | None:
    whole = parts.get(name)
    if whole is not None:
        return whole if len(whole) >= 2 else None
    a, b = parts.get(f"{name}_a"), parts.get(f"{name}_b")
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        return None
    return (a[1], b[1]) if name == "w2" and "t2" in parts else (a[0], b[1])


def _full(parts: Mapping[str, Shape]) -> _Made | None:
    """The whole difference of a layer; of a bias alone, a normalisation or a table ([1, 6, width]), which have no input, it
    counts as NORM."""
    shape = parts.get("diff", ())
    if len(shape) in (2, 4, 5):
        return shape[1], shape[0], None, shape[2:], ""
    return None, _axis(shape or parts.get("bias", ()), 0), None, (), NORM


def _glora(parts: Mapping[str, Shape]) -> _Made | None:
    """W + b1 b2 + W a1 a2, b1 [out, r] and b2 [r, in], since LyCORIS 2; before, the two were exchanged: b2 [out, r] and
    b1 [r, in]. The rank is the axis that all four have."""
    shapes = [parts.get(name, ()) for name in ("a1", "a2", "b1", "b2")]
    if any(len(shape) < 2 for shape in shapes):
        return None
    a1, a2, b1, b2 = shapes
    readings = [
        (down, up) for down, up, a in ((b2, b1, (a2[0], a1[1])), (b1, b2, (a1[0], a2[1]))) if a == (down[0], up[1])
    ]
    if not readings:
        return None
    down, up = min(readings, key=lambda pair: pair[0][0])  # of a square layer both fit; the rank is the smaller
    return down[1], up[0], down[0], down[2:], ""


def _oft(parts: Mapping[str, Shape]) -> _Made | None:
    """oft_blocks [blocks, size, size] rotate the output, or a part of it each; with four dimensions [factors, blocks, size, size]
    it is BOFT. PEFT rotates the input, and packs the skew-symmetric part [blocks, size * (size - 1) / 2]; one block may be
    all of them, shared."""
    if "packed" in parts:
        count, elements = parts["packed"] if len(parts["packed"]) == 2 else (0, 0)
        size = packed_size(elements)
        return (count * size if count > 1 else None, None, None, (), "") if count and size else None
    blocks = [shape for part, shape in parts.items() if part.startswith("blocks")]
    ranks = {len(shape) for shape in blocks}
    if ranks == {4}:
        return None, sum(shape[1] * shape[2] for shape in blocks), None, (), BOFT
    return (None, sum(shape[0] * shape[1] for shape in blocks), None, (), "") if ranks == {3} else None


def _boft(parts: Mapping[str, Shape]) -> _Made | None:
    """PEFT's: stages [stages, blocks, size, size] that turn the input, and a factor [out, 1] for each output."""
    turned = parts.get("turned", ())
    return (turned[1] * turned[2], _axis(parts.get("scaled", ()), 0), None, (), "") if len(turned) == 4 else None


def _hra(parts: Mapping[str, Shape]) -> _Made | None:
    """Mirrors [in, r] of the input, one after the other."""
    mirrors = parts["mirrors"]
    return (mirrors[0], None, mirrors[1], (), "") if len(mirrors) == 2 else None


def _vera(parts: Mapping[str, Shape]) -> _Made | None:
    """Factors of the output [out] and of the rank [r], around two matrices that all layers share."""
    outer, rank = (_axis(parts.get(part, ()), 0) for part in "bd")
    return None if outer is None or rank is None else (None, outer, rank, (), "")


def packed_size(elements: int) -> int | None:
    """The side of a skew-symmetric matrix with so many elements above its diagonal."""
    size = (1 + isqrt(1 + 8 * elements)) // 2
    return size if size * (size - 1) // 2 == elements else None


def _ia3(parts: Mapping[str, Shape]) -> _Made | None:
    """PEFT's vector is [out, 1] or [1, in], and [1, width, 1, 1] of a convolution's either side; LyCORIS' is [width], before
    its version 2 with a 1 beside it."""
    vector = _vector(parts)
    if not vector:
        return None
    outer, inner = vector if "sided" in parts and len(vector) == 2 else (1, 1)
    return inner if inner > 1 else None, outer if outer > 1 else None, None, (), ""


def _vector(parts: Mapping[str, Shape]) -> Shape:
    return parts.get("sided") or parts.get("scale", ())


def _norm(parts: Mapping[str, Shape]) -> _Made | None:
    return (None, _axis(parts.get("diff", ()), 0), None, (), "")


_MAKERS: Mapping[str, Callable[[Mapping[str, Shape]], _Made | None]] = {
    LORA: _lora, LOHA: _loha, LOKR: _lokr, FULL: _full, GLORA: _glora, OFT: _oft, BOFT: _boft, IA3: _ia3, NORM: _norm,
    HRA: _hra, VERA: _vera,
}  # fmt: skip
