"""Folders of weights: a diffusers pipeline (model_index.json), one component of it (config.json) or a PEFT adapter
(adapter_config.json)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probes import json_text
from probes.containers.file import read_header
from probes.header import Header, TensorSpec, UnreadableModel

CONFIG_CAP = 16 << 20
"""Longest JSON file that is read, in bytes; the largest published weight index has under 10 MB."""
SHARD_CAP = 1_000
"""Most files that one model is saved in; a name that claims more is not believed."""
PIPELINE_INDEX, ADAPTER_INDEX = "model_index.json", "adapter_config.json"
CONFIGS = ("config.json", "scheduler_config.json")
WEIGHTS = ("diffusion_pytorch_model", "model", "pytorch_lora_weights", "adapter_model")
"""Stems that diffusers, transformers and PEFT save under; `.fp16` and other variants stand between stem and suffix."""
_COMPONENT = re.compile(r"\w{1,100}")
"""Names of a pipeline's parts: arguments in Python, and so never a way out of the folder."""
_PICKLES = (".bin", ".pt", ".ckpt")
_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)(.*)")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder's JSON and headers, from disk or fetched in parts.

    `index`: model_index.json or adapter_config.json, None when there is neither; `configs`: component -> its config (""
    for the folder itself); `headers`: component -> header of its weights, shards merged; `pickles`: components that
    have nothing but pickles.
    """

    index: Mapping[str, Any] | None
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    headers: Mapping[str, Header] = field(default_factory=dict)
    name: str = ""
    pickles: tuple[str, ...] = ()


def merge_headers(shards: list[Header]) -> Header:
    """One header out of a sharded model's; metadata of the first shard that has any."""
    if len(shards) == 1:
        return shards[0]
    tensors: dict[str, TensorSpec] = {}
    for shard in shards:
        tensors.update(shard.tensors)
    metadata = next((shard.metadata for shard in shards if shard.metadata), {})
    sizes = [shard.size for shard in shards]
    size = None if None in sizes else sum(s for s in sizes if s is not None)
    return Header(tensors, metadata, shards[0].format, size, sum(shard.header_bytes for shard in shards))


def read_folder(path: str | Path) -> Folder:
    """Reads a folder's JSON files and weight headers. Raises UnreadableModel where it is no model's folder or a file is
    broken."""
    path = Path(path)
    if not path.is_dir():
        raise UnreadableModel("not_found", f"There is no folder {path}.")
    for name in (PIPELINE_INDEX, ADAPTER_INDEX):
        if (path / name).is_file():
            index = _json(path / name)
            break
    else:
        index = None
    configs: dict[str, Mapping[str, Any]] = {}
    headers: dict[str, Header] = {}
    pickles: list[str] = []
    components = [""]
    if index is not None and "peft_type" not in index:
        components += [
            name
            for name, value in index.items()
            if not name.startswith("_")
            and _COMPONENT.fullmatch(name)
            and isinstance(value, list)
            and value[:1] != [None]
        ]
    for component in components:
        place = path / component
        if not place.is_dir():
            continue
        for name in CONFIGS:
            if (place / name).is_file():
                configs[component] = _json(place / name)
        files = sorted(file.name for file in place.iterdir() if file.is_file())
        chosen = choose_weights(files)
        if chosen and (component or index is None or "peft_type" in index):
            refuse_missing_shards(chosen)
            headers[component] = merge_headers([read_header(place / name) for name in chosen])
        elif (component or index is not None) and not chosen and any(name.endswith(_PICKLES) for name in files):
            pickles.append(component)
    if index is None and not headers:
        raise UnreadableModel(
            "no_model_folder",
            f"{path} holds no model_index.json, adapter_config.json or single weight file.",
        )
    return Folder(index, configs, headers, path.name, tuple(pickles))


def choose_weights(files: list[str]) -> list[str]:
    """The weight files of one component among its folder's file names: the unvaried one, else one variant, whole or in
    all its shards.

    A lone safetensors file of any name counts too; several of unknown names do not (which is meant, only the user
    knows).
    """
    weights = [name for name in files if name.endswith(".safetensors")]
    for stem in WEIGHTS:
        if f"{stem}.safetensors" in weights:
            return [f"{stem}.safetensors"]
        own = [name for name in weights if name.startswith(stem) and name[len(stem)] in ".-"]
        shards = [name for name in own if "-of-" in name]
        whole = [name for name in own if name not in shards]
        plain = [name for name in shards if name.startswith(f"{stem}-")]
        if plain:
            return _one_sharding(plain)
        if whole:
            return whole[:1]
        if shards:
            return _one_sharding(shards)
    return weights if len(weights) == 1 else []


def _one_sharding(shards: Sequence[str]) -> list[str]:
    """The shards of one saving, of those that lie in one folder: the first that is whole, if one is."""
    savings: dict[tuple[str, ...], list[str]] = {}
    for name in shards:
        match = _SHARD.match(name)
        savings.setdefault((match[1], match[3], match[4]) if match else (), []).append(name)
    return next((names for names in savings.values() if not _missing(names)), next(iter(savings.values())))


def refuse_missing_shards(names: Sequence[str]) -> None:
    """Raises UnreadableModel where these are shards of one model, and not all of them: what is missing may be what tells
    it apart."""
    missing = _missing(names)
    if missing:
        count = f"{len(missing):,} of the {len(missing) + len(names):,} files"
        raise UnreadableModel("truncated", f"The model lacks {count} that it was saved in, {missing[0]} among them.")


def _missing(names: Sequence[str]) -> list[str]:
    match = _SHARD.match(names[0]) if names else None
    if match is None or int(match[3]) > SHARD_CAP:
        return []
    digits = len(match[2])
    whole = (f"{match[1]}-{part:0{digits}}-of-{match[3]}{match[4]}" for part in range(1, int(match[3]) + 1))
    return [name for name in whole if name not in names]


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > CONFIG_CAP:
            raise UnreadableModel(
                "bad_config", f"{path} is longer than {CONFIG_CAP:,} bytes, which no configuration is."
            )
        value = json_text.loads(path.read_bytes())
    except OSError as error:
        raise UnreadableModel("not_readable", f"{path} cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise UnreadableModel("bad_config", f"{path} is not JSON ({error}).") from None
    if not isinstance(value, dict):
        raise UnreadableModel("bad_config", f"{path} is JSON but not a configuration.")
    return value
