"""What each algorithm does to a weight: one function each, from resident factors and the base weight to the change.

All take and give float32; `base` and the change have the base weight's shape [out, in] or [out, in, kh, kw]. `weight` is how much of the
change is wanted: alpha / rank times what the user asked for. Part names are those of `algorithms`, after `prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from probes.adapters import packed_size

Parts = Mapping[str, Tensor]
Delta = Callable[[Parts, Tensor, float], Tensor]


# --- once, when a file is loaded ---------------------------------------------------------------------------------------


def prepare(algorithm: str, parts: Parts, base: torch.Size, config: Mapping[str, object]) -> Parts:
    """What stays resident, from the file's parts: whatever does not depend on the base or the weight is worked out here."""
    make = _PREPARED.get(algorithm)
    return make(parts, base, config) if make else dict(parts)


def _prepare_lora(parts: Parts, base: torch.Size, config: Mapping[str, object]) -> Parts:
    """down [rank, in * kh * kw], up [out, rank]; lora_mid (Tucker) is multiplied into down, which it spreads over the kernel."""
    down = parts["down"]
    if (mid := parts.get("mid")) is not None:
        down = torch.einsum("ijhw,jc->ichw", mid.float(), down.flatten(1).float())
    return {"down": down.flatten(1), "up": parts["up"].flatten(1)}


def _prepare_ia3(parts: Parts, base: torch.Size, config: Mapping[str, object]) -> Parts:
    """One factor for each input or output, which scales the base; PEFT's are around 1, LyCORIS' around 0."""
    if "weight" in parts:
        values, on_input = parts["weight"], bool(parts["on_input"].item())
    else:
        values, on_input = parts["ia3_l"] - 1, _peft_scales_input(parts["ia3_l"].shape, base)
    shape = (1, -1) if on_input else (-1, 1)
    return {"factor": values.reshape(*shape, *(1 for _ in base[2:]))}


def _peft_scales_input(stored: torch.Size, base: torch.Size) -> bool:
    """[out, 1] scales outputs, [1, in] inputs; for a convolution [1, n, 1, 1] is either, and with n both ways outputs, PEFT's default."""
    if len(stored) == 2:
        return stored[0] == 1
    return stored[1] != base[0]


def _prepare_oft(parts: Parts, base: torch.Size, config: Mapping[str, object]) -> Parts:
    """Cayley's (1 + Q)(1 - Q)^-1 of Q = B - B^T for each block; alpha times outputs bounds Q's norm (constrained OFT)."""
    blocks = parts["oft_blocks"].float()
    skew = blocks - blocks.mT
    bound = float(parts["alpha"].item()) * base[0] if "alpha" in parts else 0.0
    if bound > 0 and (norm := float(skew.norm()) + 1e-8) > bound:
        skew = skew * (bound / norm)
    one = torch.eye(blocks.shape[-1], device=blocks.device)
    rotation = (one + skew) @ torch.linalg.inv(one - skew)
    prepared = {"rotation": rotation}
    if "rescale" in parts:
        prepared["rescale"] = parts["rescale"].float().reshape(-1, *(1 for _ in base[1:]))
    return prepared


def _prepare_packed_oft(parts: Parts, base: torch.Size, config: Mapping[str, object]) -> Parts:
    """PEFT's rotations of the input. Its default since 0.16 is a Neumann series of `num_cayley_neumann_terms` for Cayley's inverse."""
    packed = parts["oft_packed"].float()
    size = packed_size(packed.shape[1])
    assert size is not None  # the fit was checked
    skew = packed.new_zeros(packed.shape[0], size, size)
    rows, columns = torch.triu_indices(size, size, 1, device=packed.device)
    skew[:, rows, columns] = packed
    skew = skew - skew.mT
    one = torch.eye(size, device=packed.device)
    if config.get("use_cayley_neumann", True):
        terms = int(str(config.get("num_cayley_neumann_terms", 5)))
        rotation, power = one.expand_as(skew), one.expand_as(skew)
        for term in range(1, terms):  # 1 + 2Q + 2Q^2 + ... + Q^(terms-1): the last counts once
            power = power @ skew
            rotation = rotation + power * (1 if term == terms - 1 and terms > 2 else 2)
    else:
        rotation = torch.linalg.solve(one + skew, one - skew, left=False)
    return {"rotation": rotation.expand(base[1:].numel() // size, size, size)}


_PREPARED: Mapping[str, Callable[[Parts, torch.Size, Mapping[str, object]], Parts]] = {
    "LoRA": _prepare_lora,
    "IA3": _prepare_ia3,
    "OFT": _prepare_oft,
    "PEFT's OFT": _prepare_packed_oft,
}


# --- whenever an overlay is made ---------------------------------------------------------------------------------------


def lora(parts: Parts, base: Tensor, weight: float) -> Tensor:
    return (parts["up"] * weight @ parts["down"]).reshape(base.shape)


def _tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """core [rank, rank, kh, kw], a [rank, out], b [rank, in] -> [out, in, kh, kw]."""
    return torch.einsum("ij...,ip,jr->pr...", core, a, b)


def loha(parts: Parts, base: Tensor, weight: float) -> Tensor:
    """(w1_a w1_b) * (w2_a w2_b), element by element."""
    if "hada_t1" in parts:
        first, second = (_tucker(*(parts[f"hada_{p}{i}{q}"] for p, q in _TUCKER)) for i in (1, 2))
    else:
        first, second = (parts[f"hada_w{i}_a"] @ parts[f"hada_w{i}_b"].flatten(1) for i in (1, 2))
    return (first * second).mul_(weight).reshape(base.shape)


_TUCKER = (("t", ""), ("w", "_a"), ("w", "_b"))


def lokr(parts: Parts, base: Tensor, weight: float) -> Tensor:
    """The Kronecker product of w1 and w2; either may be stored as a product of two, w2 with a Tucker core besides."""
    first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    if "lokr_w2" in parts:
        second = parts["lokr_w2"]
    elif "lokr_t2" in parts:
        second = _tucker(parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
    else:
        second = parts["lokr_w2_a"] @ parts["lokr_w2_b"].flatten(1)
    # as [out, in, kernel]: a flattened w2 has its kernel inside the inputs, and so has the flattened product
    second = second.reshape(base.shape[0] // first.shape[0], base.shape[1] // first.shape[1], -1).contiguous()
    first = (first.flatten(1) * weight)[:, :, None]
    return torch.kron(first, second).reshape(base.shape)


def difference(parts: Parts, base: Tensor, weight: float) -> Tensor:
    return (parts["diff" if "diff" in parts else "w_norm"] * weight).reshape(base.shape)


def glora(parts: Parts, base: Tensor, weight: float) -> Tensor:
    """W A + B with A = a1 a2 and B = b1 b2; before LyCORIS 2.0 the files had the two of each pair exchanged."""
    a1, a2, b1, b2 = (parts[name].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    if a1.shape[0] != base.shape[1] or a1.shape[1] != a2.shape[0] or b1.shape[0] != base.shape[0]:
        a1, a2, b1, b2 = a2, a1, b2, b1
    through = torch.einsum("oi...,ir,rj->oj...", base, a1, a2)
    return (through + (b1 @ b2).reshape(base.shape)) * weight


def ia3(parts: Parts, base: Tensor, weight: float) -> Tensor:
    return base * (parts["factor"] * weight)


def oft(parts: Parts, base: Tensor, weight: float) -> Tensor:
    """Output channels rotated block by block; BOFT in stages that each mix other channels, each stage drawn towards 1 by `weight`."""
    rotation, rescale = parts["rotation"], parts.get("rescale")
    if rotation.dim() == 4:
        turned = _butterfly(rotation, base, weight)
        if rescale is not None:
            turned = turned * (1 + weight * (rescale - 1))
        return turned - base
    turned = torch.einsum("kij,ki...->kj...", rotation, torch.unflatten(base, 0, rotation.shape[:2])).flatten(0, 1)
    return ((turned if rescale is None else turned * rescale) - base) * weight


def _butterfly(stages: Tensor, base: Tensor, weight: float) -> Tensor:
    """stages [count, blocks, size, size]. Stage i pairs channels that are 2^i * size / 2 apart."""
    size = stages.shape[-1]
    one = torch.eye(size, device=stages.device)
    turned = base
    for index, blocks in enumerate(stages):
        reach = 2**index * (size // 2)
        paired = torch.unflatten(turned, 0, (-1, 2, reach)).transpose(1, 2)
        rotated = torch.einsum(
            "bij,bj...->bi...", one + weight * (blocks - one), torch.unflatten(paired.flatten(0, 2), 0, (-1, size))
        )
        turned = torch.unflatten(rotated.flatten(0, 1), 0, (-1, reach, 2)).transpose(1, 2).flatten(0, 2)
    return turned


def packed_oft(parts: Parts, base: Tensor, weight: float) -> Tensor:
    """Inputs (of a convolution: inputs and kernel together) rotated block by block: W becomes W R^T."""
    rotation = parts["rotation"]
    blocked = torch.unflatten(base.flatten(1), 1, rotation.shape[:2])
    return (torch.einsum("kij,okj->oki", rotation, blocked).reshape(base.shape) - base) * weight


DELTAS: Mapping[str, Delta] = {
    "LoRA": lora,
    "LoHa": loha,
    "LoKr": lokr,
    "full difference": difference,
    "norm difference": difference,
    "GLoRA": glora,
    "IA3": ia3,
    "OFT": oft,
    "PEFT's OFT": packed_oft,
}


def decomposed(delta: Tensor, base: Tensor, magnitude: Tensor, weight: float) -> Tensor:
    """DoRA's change: base + delta is given the `magnitude` (of each output [out, 1, ..] or input [1, in, ..]) that was trained.

    A weight other than 1 goes that part of the way from the base, so that 0 is the base itself; PEFT weighs delta alone and keeps the
    magnitude, which is not the base at 0.
    """
    moved = base + delta
    over = tuple(axis for axis in range(base.dim()) if magnitude.shape[axis] == 1)
    norm: Tensor = torch.linalg.vector_norm(moved, dim=over, keepdim=True).clamp_min(torch.finfo(base.dtype).tiny)
    return (moved * (magnitude / norm) - base) * weight
