"""Adapters on a device: factors that are read once and stay, whatever weight they are worn at."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod, sqrt
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from probes.containers.folder import ADAPTER_INDEX
from registry.errors import IncompatibleAdapter, UnusableFile
from registry.weights.algorithms import NUMBERS, Shape, Unrecognised, recognise
from registry.weights.deltas import DELTAS, decomposed, prepare
from registry.weights.modules import Target, bias_of, place
from registry.weights.stored import Stored

_NAMED = 20
"""How many tensors that have no place an error names."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """What is done to one weight: an algorithm of `deltas`, its resident parts in the file's dtype, and `scale`, which is alpha / rank.

    `magnitude`: DoRA's, float32, of the base's dimensions, 1 along those that it is the norm over.
    """

    algorithm: str
    parts: Mapping[str, Tensor]
    scale: float = 1.0
    magnitude: Tensor | None = None

    @property
    def low_rank(self) -> bool:
        """It adds up @ down and nothing else: such layers are applied together, concatenated along the rank."""
        return self.algorithm == "LoRA" and self.magnitude is None

    @property
    def rank(self) -> int:
        return int(self.parts["up"].shape[1])

    def change(self, base: Tensor, weight: float) -> Tensor:
        """The change of `base` (float32) at `weight`."""
        parts = {name: part.float() for name, part in self.parts.items()}
        if self.magnitude is None:
            return DELTAS[self.algorithm](parts, base, weight * self.scale)
        return decomposed(DELTAS[self.algorithm](parts, base, self.scale), base, self.magnitude, weight)


@dataclass(frozen=True, eq=False)
class Factors:
    """An adapter on a device: canonical base weights -> what it does to them. Small, and never written."""

    layers: Mapping[Target, Layer]

    @cached_property
    def nbytes(self) -> int:
        """Of the memory that they keep: of a file that was read whole, all of it, though a single part be left in it."""
        parts = [part for layer in self.layers.values() for part in (*layer.parts.values(), layer.magnitude)]
        stores = [part.untyped_storage() for part in parts if part is not None]
        return sum({store.data_ptr(): store.nbytes() for store in stores}.values())


@dataclass(frozen=True, slots=True)
class Strength:
    """How much of an adapter is worn: 0 is off, 1 as trained, negative is its opposite."""

    denoiser: float
    text: float

    @property
    def off(self) -> bool:
        return self.denoiser == self.text == 0

    def of(self, weight: str) -> float:
        """For one canonical base weight."""
        return self.text if weight.startswith("text_encoder") else self.denoiser


def load_factors(
    path: Path,
    base: Mapping[str, Shape],
    device: torch.device,
    *,
    mapped: bool = True,
    stacked: bool | None = None,
) -> Factors:
    """Reads an adapter for a base with these canonical names and shapes. Whether the shapes fit is `check_fit`'s to say, before.

    On a CPU the factors stay in the mapped file, if it has the form in which they are needed; `mapped` False: they are read, so that
    nothing hangs on what others do to the file. `stacked`: low-rank factors of one shape are laid one after another, in the order of
    `base`, so that a set is put on in one launch a shape; None: on a GPU.

    Raises UnusableFile: the file is damaged. IncompatibleAdapter: tensors have no place in the base.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            configs = _peft_configs(path, stored.metadata() or {})
            names = stored.keys()
            placed, problems = place(names, base.keys())
            there = Stored(path, device, mapped=mapped and device.type == "cpu")
            numbers = there.numbers(key for keys in placed.values() for part, key in keys.items() if part in NUMBERS)
            layers: dict[Target, Layer] = {}
            for target, keys in placed.items():
                algorithm = recognise(keys)
                if isinstance(algorithm, Unrecognised):
                    problems |= {keys[part]: algorithm.problem for part in algorithm.parts}
                    continue
                parts = {part: numbers[key] if key in numbers else there.tensor(key) for part, key in keys.items()}
                layers |= _layers(target, algorithm.name, parts, base, configs)
    except SafetensorError as error:
        raise UnusableFile(f"{path.name} cannot be read: {error}", path=str(path)) from error
    if problems:
        said = [f"{key}: {problem}" for key, problem in problems.items()]
        raise IncompatibleAdapter(
            f"{path.name} has {len(said)} tensors without a place in this checkpoint: {'; '.join(said[:3])}",
            problems=said[:_NAMED],
            count=len(said),
        )
    if device.type != "cpu" if stacked is None else stacked:
        layers |= _stack(layers, base)
    return Factors(layers)


def _stack(layers: Mapping[Target, Layer], base: Iterable[str]) -> dict[Target, Layer]:
    """The low-rank layers again, their factors as views of one allocation for each shape."""
    classes: dict[tuple[object, ...], list[Target]] = defaultdict(list)
    for name in base:
        target: Target = (name,)
        if (layer := layers.get(target)) is not None and layer.low_rank:
            classes[tuple((part.shape, part.dtype) for part in layer.parts.values())].append(target)
    made: dict[Target, Layer] = {}
    for targets in classes.values():
        ups, downs = (
            torch.stack([layers[target].parts[part] for target in targets]).unbind() for part in ("up", "down")
        )
        for target, up, down in zip(targets, ups, downs, strict=True):
            made[target] = replace(layers[target], parts={"up": up, "down": down})
    return made


def _layers(
    target: Target, algorithm: str, parts: dict[str, Tensor], shapes: Mapping[str, Shape], configs: Mapping[str, Any]
) -> dict[Target, Layer]:
    """The layers that one module of a file makes: of its weights, and of their biases."""
    rows = [shapes[name][0] for name in target]
    base = torch.Size((sum(rows), *shapes[target[0]][1:]))
    component, _, module = target[0].removesuffix(".weight").partition(".")
    config = configs.get(component) or configs.get("") or {}
    scale = _scale(algorithm, parts, config, module)
    made: dict[Target, Layer] = {}
    biases = [
        parts.pop(part).float() * scale
        for part, scale in (("diff_b", 1.0), ("b_norm", 1.0), ("up_bias", scale))
        if part in parts
    ]
    if biases:
        for name, piece in zip(target, torch.split(torch.stack(biases).sum(0), rows), strict=True):
            made[bias_of(name),] = Layer("full difference", {"diff": piece})
    if algorithm not in DELTAS:  # nothing but a bias
        return made
    magnitude = _magnitude(parts, base)
    layer = Layer(algorithm, prepare(algorithm, parts, base, config), scale, magnitude)
    if (
        "ia3_l" in parts and layer.parts["factor"].shape[0] == base[0]
    ):  # PEFT's scales what the layer gives, with its bias
        for name, piece in zip(target, torch.split(layer.parts["factor"].flatten(), rows), strict=True):
            if bias_of(name) in shapes:
                made[bias_of(name),] = Layer(algorithm, {"factor": piece})
    if len(target) == 1 or not layer.low_rank:
        return made | {target: layer}
    up, down = layer.parts["up"], layer.parts["down"]
    for name, piece in zip(target, torch.split(up, rows), strict=True):
        made[name,] = Layer(algorithm, {"up": piece, "down": down}, scale)
    return made


def _magnitude(parts: Mapping[str, Tensor], base: torch.Size) -> Tensor | None:
    """DoRA's, shaped so that it can be multiplied with the base.

    PEFT's is of each output. LyCORIS' dora_scale is [out, 1, ...] (its default since 3.0) or [1, in, ...].
    """
    stored = parts.get("magnitude", parts.get("dora_scale"))
    if stored is None:
        return None
    on_input = "dora_scale" in parts and stored.shape[0] == 1 and prod(stored.shape) == base[1]
    shape = (1, -1) if on_input else (-1, 1)
    return stored.float().reshape(*shape, *(1 for _ in base[2:]))


# --- alpha: how each layout says it -------------------------------------------------------------------------------------

_RANKS: Mapping[str, Callable[[Mapping[str, Tensor]], int | None]] = {
    "LoRA": lambda parts: parts["up"].shape[1],
    "LoHa": lambda parts: parts["hada_w1_b"].shape[0],
    # one of two whole matrices has no rank, and LyCORIS then leaves its alpha out of account
    "LoKr": lambda parts: next((parts[name].shape[0] for name in ("lokr_w2_b", "lokr_w1_b") if name in parts), None),
    "GLoRA": lambda parts: min(parts["a2"].shape[:2]),  # [rank, in], in old files [in, rank]
}


def _scale(algorithm: str, parts: Mapping[str, Tensor], config: Mapping[str, Any], module: str) -> float:
    """alpha / rank: from the file's alpha, else PEFT's configuration, else 1, as diffusers and kohya have it."""
    if algorithm not in _RANKS:
        return 1.0
    rank = _RANKS[algorithm](parts)
    if (alpha := parts.get("alpha")) is not None:
        return float(alpha.item()) / rank if rank else 1.0
    return _peft_scale(config, module, rank)


def _peft_scale(config: Mapping[str, Any], module: str, rank: int | None) -> float:
    alpha, rank = config.get("lora_alpha", config.get("alpha")), rank or config.get("r")
    if alpha is None or not rank:
        return 1.0
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or not all(_NAME_END.fullmatch(key) for key in patterns):
        raise UnusableFile(f"Its alpha_pattern has other keys than the names of modules: {str(patterns)[:200]}")
    # PEFT takes the first key that is the name or, behind a dot, its end: peft.utils.get_pattern_key.
    alpha = next((value for key, value in patterns.items() if f".{module}".endswith(f".{key}")), alpha)
    try:
        return float(alpha) / (sqrt(rank) if config.get("use_rslora") else rank)
    except (TypeError, ValueError) as error:
        raise UnusableFile(f"Its alpha and rank are no numbers: {alpha!r}, {rank!r}") from error


_NAME_END = re.compile(r"\w+(?:\.\w+)*")
"""PEFT runs the keys as regular expressions. Those that its users write are names; a stranger's expression may never end."""


def _peft_configs(path: Path, metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Component -> its LoraConfig; "" for all.

    diffusers >= 0.34 writes it into the metadata, with keys such as `unet.lora_alpha`; PEFT beside the weights, as adapter_config.json.
    """
    configs: dict[str, dict[str, Any]] = defaultdict(dict)
    for key, value in _object(metadata.get("lora_adapter_metadata", "{}"), "lora_adapter_metadata").items():
        component, _, field = key.partition(".")
        configs[component][field] = value
    beside = path.with_name(ADAPTER_INDEX)
    if path.stem == "adapter_model" and beside.is_file():
        configs[""] = _object(beside.read_text(encoding="utf-8"), beside.name)
    return configs


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        stated = json.loads(text)
    except ValueError as error:
        raise UnusableFile(f"Its {name} is not JSON: {error}") from error
    if not isinstance(stated, dict):
        raise UnusableFile(f"Its {name} is not a JSON object.")
    return stated
