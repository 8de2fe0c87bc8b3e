"""What an adapter's file looks like: how its tensors are spelled, and per algorithm which parts a layer has and which weight they change.

Names and shapes only, no torch in here: a listing asks whether an adapter fits. What the parts do to a weight is in `deltas`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import prod

from probes.adapters import packed_size

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

SPELLINGS: Mapping[str, str] = {
    # how a key ends -> part
    "lora_down.weight": "down",  # kohya
    "lora_up.weight": "up",
    "lora_mid.weight": "mid",
    "lora.down.weight": "down",  # diffusers
    "lora.up.weight": "up",
    "lora_linear_layer.down.weight": "down",  # diffusers, text encoder
    "lora_linear_layer.up.weight": "up",
    "lora_A.weight": "down",  # PEFT
    "lora_B.weight": "up",
    "lora_B.bias": "up_bias",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "oft_R.weight": "oft_packed",
    "ia3_l": "ia3_l",
    "alpha": "alpha",
    "dora_scale": "dora_scale",
    **{
        f"hada_{part}": f"hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")
    },  # LyCORIS, from here on
    **{f"lokr_{part}": f"lokr_{part}" for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    **{f"{part}.weight": part for part in ("a1", "a2", "b1", "b2")},
    "diff": "diff",
    "diff_b": "diff_b",
    "w_norm": "w_norm",
    "b_norm": "b_norm",
    "oft_blocks": "oft_blocks",
    "rescale": "rescale",
    "weight": "weight",
    "on_input": "on_input",
}
NUMBERS = frozenset({"alpha", "on_input"})
"""Parts that are one number each."""
_PIECES = max(ending.count(".") for ending in SPELLINGS) + 1
# PEFT keeps the adapter's own name in some savings (lora_A.default.weight).
_NAMED = re.compile(r"\.(lora_[AB]|lora_magnitude_vector|oft_R)\.[\w-]+\.(weight|bias)$")
# diffusers before 0.20: attn1.processor.to_q_lora.down.weight; XLabs: processor.qkv_lora1.down.weight, 2 for the text's
_PROCESSOR = re.compile(r"_lora(?P<stream>[12]?)\.(?P<part>down|up)\.weight$")


def split_part(key: str) -> tuple[str, str] | None:
    """An adapter's key as (module as the file spells it, part), or None if it ends as no known adapter's does."""
    if match := _PROCESSOR.search(key):
        return key[: match.start()] + match["stream"], match["part"]
    pieces = _NAMED.sub(r".\1.\2", key).split(".")
    for count in range(min(_PIECES, len(pieces) - 1), 0, -1):
        if part := SPELLINGS.get(".".join(pieces[-count:])):
            return ".".join(pieces[:-count]), part
    return None


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way of changing a weight.

    `needs`: sets of parts, one of which a layer must have; `may`: what it may have besides. `biases`: parts that change the
    layer's bias. `wants(shapes, base)`: the shape of the weight that parts of these shapes change, where they leave a side open
    the base's; None if they do not fit each other.
    """

    name: str
    needs: tuple[frozenset[str], ...]
    wants: Callable[[Shapes, Shape], Shape | None]
    may: frozenset[str] = frozenset()
    biases: frozenset[str] = frozenset()

    def takes(self, parts: Collection[str]) -> bool:
        return any(need <= set(parts) <= need | self.may | self.biases for need in self.needs)


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """`parts` that make no layer, and why, in words that follow a tensor's name."""

    parts: frozenset[str]
    problem: str


def recognise(parts: Collection[str]) -> Algorithm | Unrecognised:
    """The algorithm of a layer that has exactly these parts."""
    have = frozenset(parts)
    for algorithm in ALGORITHMS:
        if algorithm.takes(have):
            return algorithm
    nearest, need = max(
        ((algorithm, need) for algorithm in ALGORITHMS for need in algorithm.needs),
        key=lambda pair: len(pair[1] & have),
    )
    if missing := sorted(need - have):
        return Unrecognised(have, f"has no {missing[0]} part beside it")
    return Unrecognised(
        have - need - nearest.may - nearest.biases, f"is no part of {nearest.name}, which it stands beside"
    )


def plain(shape: Shape) -> Shape:
    """A 1x1 convolution counts as a linear layer: kohya stores the one, PEFT the other, for the same layer."""
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape


def _matrix(rows: int, columns: int, base: Shape) -> Shape:
    """[rows, columns] is a flattened convolution if the base's kernel makes it one."""
    return base if (rows, columns) == (base[0], prod(base[1:])) else (rows, columns)


def _lora(parts: Shapes, base: Shape) -> Shape | None:
    """down [rank, in] or [rank, in, kh, kw], up [out, rank] or [out, rank, 1, 1]; with mid [rank, rank, kh, kw] down is 1x1."""
    down, up, mid = plain(parts["down"]), plain(parts["up"]), parts.get("mid")
    if len(up) != 2 or len(down) not in (2, 4):
        return None
    if mid is None:
        return (up[0], *down[1:]) if up[1] == down[0] else None
    if len(mid) != 4 or len(down) != 2 or mid[:2] != (up[1], down[0]):
        return None
    return plain((up[0], down[1], *mid[2:]))


def _product(a: Shape, b: Shape, core: Shape | None) -> Shape | None:
    """The shape of a @ b, a [out, rank], b [rank, in] (or with a kernel); with a Tucker core [rank, rank, ...] a is [rank, out]."""
    if len(a) != 2 or len(b) < 2:
        return None
    if core is None:
        return (a[0], *b[1:]) if a[1] == b[0] else None
    return (a[1], b[1], *core[2:]) if len(core) > 2 and len(b) == 2 and core[:2] == (a[0], b[0]) else None


def _loha(parts: Shapes, base: Shape) -> Shape | None:
    """w1_a, w2_a [out, rank], w1_b, w2_b [rank, in * kh * kw]; with t1, t2 [rank, rank, kh, kw] the a are [rank, out], the b [rank, in]."""
    first, second = (_product(parts[f"hada_w{i}_a"], parts[f"hada_w{i}_b"], parts.get(f"hada_t{i}")) for i in (1, 2))
    if first is None or first != second:
        return None
    return _matrix(first[0], first[1], base) if len(first) == 2 else first


def _lokr(parts: Shapes, base: Shape) -> Shape | None:
    """kron(w1 [a, c], w2 [b, d, kh, kw]), each whole or as a product."""
    first = parts.get("lokr_w1") or _product(parts["lokr_w1_a"], parts["lokr_w1_b"], None)
    second = parts.get("lokr_w2") or _product(parts["lokr_w2_a"], parts["lokr_w2_b"], parts.get("lokr_t2"))
    if first is None or second is None or len(plain(first)) != 2 or len(second) < 2:
        return None
    rows, columns = first[0] * second[0], first[1] * second[1]
    return _matrix(rows, columns, base) if len(second) == 2 else (rows, columns, *second[2:])


def _glora(parts: Shapes, base: Shape) -> Shape | None:
    """W a1 a2 + b1 b2 with a1 [in, rank], b1 [out, rank]; before LyCORIS 2.0 W a2 a1 + b2 b1. See `deltas.glora`."""
    a1, a2, b1, b2 = (plain(parts[name]) for name in ("a1", "a2", "b1", "b2"))
    if any(len(shape) not in (2, 4) for shape in (a1, a2, b1, b2)):
        return None
    for (ax, ay), (bx, by) in (((a1, a2), (b1, b2)), ((a2, a1), (b2, b1))):
        if len(ax) == len(ay) == len(bx) == 2 and ax[1] == ay[0] and bx[1] == by[0] and ax[0] == ay[1] == by[1]:
            wanted = (bx[0], *by[1:])
            if plain(base) == plain(wanted):
                return wanted
    return None


def _ia3(parts: Shapes, base: Shape) -> Shape | None:
    count = prod(parts["weight"] if "weight" in parts else parts["ia3_l"])
    return base if len(base) > 1 and count in base[:2] else (count, *base[1:])


def _oft(parts: Shapes, base: Shape) -> Shape | None:
    """Rotations of the output: blocks [count, size, size], or BOFT's [stages, count, size, size]."""
    blocks = parts["oft_blocks"]
    if len(blocks) not in (3, 4) or blocks[-1] != blocks[-2]:
        return None
    return (blocks[-3] * blocks[-1], *base[1:])


def _packed_oft(parts: Shapes, base: Shape) -> Shape | None:
    """PEFT's rotations of the input [count, size * (size - 1) / 2]; one that all blocks share has count 1."""
    packed = parts["oft_packed"]
    size = packed_size(packed[1]) if len(packed) == 2 else None
    if not size:
        return None
    columns = prod(base[1:])
    shared = packed[0] == 1 and columns % size == 0
    return base if shared or packed[0] * size == columns else (base[0], packed[0] * size)


def _set(*parts: str) -> frozenset[str]:
    return frozenset(parts)


_SCALED = _set("alpha", "dora_scale", "magnitude")

ALGORITHMS: tuple[Algorithm, ...] = (
    Algorithm("LoRA", (_set("down", "up"),), _lora, _SCALED | {"mid"}, _set("up_bias", "diff_b")),
    Algorithm(
        "LoHa",
        (
            _set("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
            _set("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
        ),
        _loha,
        _SCALED,
        _set("diff_b"),
    ),
    Algorithm(
        "LoKr",
        tuple(
            first | second
            for first in (_set("lokr_w1"), _set("lokr_w1_a", "lokr_w1_b"))
            for second in (
                _set("lokr_w2"),
                _set("lokr_w2_a", "lokr_w2_b"),
                _set("lokr_w2_a", "lokr_w2_b", "lokr_t2"),
            )
        ),
        _lokr,
        _SCALED,
        _set("diff_b"),
    ),
    Algorithm("full difference", (_set("diff"),), lambda parts, _: parts["diff"], _set("alpha"), _set("diff_b")),
    Algorithm("bias difference", (_set("diff_b"),), lambda _, base: base, _set("alpha"), _set("diff_b")),
    Algorithm("norm difference", (_set("w_norm"),), lambda parts, _: parts["w_norm"], biases=_set("b_norm")),
    Algorithm("GLoRA", (_set("a1", "a2", "b1", "b2"),), _glora, _set("alpha")),
    Algorithm("IA3", (_set("weight", "on_input"), _set("ia3_l")), _ia3),
    Algorithm("OFT", (_set("oft_blocks"),), _oft, _set("alpha", "rescale")),
    Algorithm("PEFT's OFT", (_set("oft_packed"),), _packed_oft),
)
