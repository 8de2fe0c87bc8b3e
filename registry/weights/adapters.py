"""The mathematics of LoRA on resident tensors: factors that stay, and overlays made from them.

A layer's change is `scale * weight * up @ down`, with down [rank, in * kh * kw] and up [out, rank]; a convolution is the same on its
flattened kernel. PEFT's merged weights are what the tests hold it against.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from registry.errors import UnusableFile
from registry.weights.bundle import Bundle
from registry.weights.names import Role, resolve

BATCH_BYTES = 32 * 2**20
"""Equal shapes are patched together up to this much float32: few launches on a GPU, and little memory beside base and overlay."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's factors: down [rank, in * kh * kw] and up [out, rank] in the file's dtype; `scale` is alpha / rank."""

    down: Tensor
    up: Tensor
    scale: float


@dataclass(frozen=True, eq=False)
class Factors:
    """A LoRA on a device: canonical base weight -> its layer's factors. Small, and never written."""

    layers: Mapping[str, Layer]


def load_factors(path: Path, base: Collection[str], device: torch.device) -> Factors:
    """Reads a LoRA for a base with the canonical names `base`. Whether it fits is `check_fit`'s to say, before.

    Without an alpha in the file, and without PEFT's configuration in its metadata, alpha is the rank (scale 1), as in diffusers.

    Raises UnusableFile: the file is damaged.
    """
    parts: dict[str, dict[Role, Tensor]] = defaultdict(dict)
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            configs = _peft_configs(stored.metadata() or {})
            for key in stored.keys():  # noqa: SIM118 - a safe_open handle is no mapping
                if part := resolve(key, base):
                    parts[part.weight][part.role] = stored.get_tensor(key).to(device)
    except SafetensorError as error:
        raise UnusableFile(f"{path.name} cannot be read: {error}", path=str(path)) from error
    return Factors({weight: _layer(weight, roles, configs) for weight, roles in parts.items()})


def _layer(weight: str, parts: Mapping[Role, Tensor], configs: Mapping[str, Mapping[str, Any]]) -> Layer:
    down, up = parts["down"], parts["up"].flatten(1)
    if (mid := parts.get("mid")) is not None:
        # lora_mid (Tucker): down [rank, in, 1, 1] spread by mid [rank, rank, kh, kw]
        down = torch.einsum("ijhw,jc->ichw", mid.float(), down.flatten(1).float()).to(down.dtype)
    rank = up.shape[1]
    if (alpha := parts.get("alpha")) is not None:
        scale = float(alpha.item()) / rank
    else:
        component, _, module = weight.removesuffix(".weight").partition(".")
        scale = _peft_scale(configs.get(component), module, rank)
    return Layer(down.flatten(1), up, scale)


def _peft_configs(metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Component -> the LoraConfig that diffusers >= 0.34 writes into the metadata, with keys such as `unet.lora_alpha`."""
    configs: dict[str, dict[str, Any]] = defaultdict(dict)
    try:
        stated = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError as error:
        raise UnusableFile(f"Its lora_adapter_metadata is not JSON: {error}") from error
    if not isinstance(stated, dict):
        raise UnusableFile("Its lora_adapter_metadata is not a JSON object.")
    for key, value in stated.items():
        component, _, field = key.partition(".")
        configs[component][field] = value
    return configs


def _peft_scale(config: Mapping[str, Any] | None, module: str, rank: int) -> float:
    if not config or "lora_alpha" not in config:
        return 1.0
    alpha = config["lora_alpha"]
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):  # PEFT's own rule, peft.utils.get_pattern_key
            alpha = value
            break
    return float(alpha) / (sqrt(rank) if config.get("use_rslora") else rank)


def overlay(bundle: Bundle, adapters: Sequence[tuple[Factors, float]]) -> dict[str, Tensor]:
    """Canonical name -> patched copy, for every tensor that the adapters touch, each with its weight; the bundle stays as it is.

    Several adapters are concatenated along the rank and applied in one pass. Accumulated in float32, rounded once to the base's dtype. A
    weight of 0 touches nothing.
    """
    touched: dict[str, list[tuple[Layer, float]]] = defaultdict(list)
    for factors, weight in adapters:
        if weight != 0:
            for name, layer in factors.layers.items():
                touched[name].append((layer, layer.scale * weight))
    patched: dict[str, Tensor] = {}
    for names in _batches(bundle, touched):
        base = torch.stack(
            [bundle.tensors[name].flatten(1) for name in names]
        )  # [batch, out, in]: becomes the overlay's own memory
        up = torch.stack([torch.cat([layer.up.float() * scale for layer, scale in touched[name]], 1) for name in names])
        down = torch.stack([torch.cat([layer.down.float() for layer, _ in touched[name]], 0) for name in names])
        changed = base.float().baddbmm_(up, down).to(bundle.dtype)
        for name, tensor in zip(names, changed, strict=True):
            patched[name] = tensor.view(bundle.tensors[name].shape)
    return patched


def _batches(bundle: Bundle, touched: Mapping[str, Sequence[tuple[Layer, float]]]) -> Iterator[list[str]]:
    """Names of tensors of one flattened shape and total rank, up to BATCH_BYTES at a time."""
    classes: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for name, layers in touched.items():
        rows = bundle.tensors[name].shape[0]
        classes[rows, bundle.tensors[name].numel() // rows, sum(layer.up.shape[1] for layer, _ in layers)].append(name)
    for (rows, columns, _), names in classes.items():
        count = max(1, BATCH_BYTES // (4 * rows * columns))
        for start in range(0, len(names), count):
            yield names[start : start + count]
