"""Folders of weights: a diffusers pipeline (model_index.json), one component of it (config.json) or a PEFT adapter
(adapter_config.json)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probes import json_text
from probes.containers.file import read_header
from probes.containers.weight_names import PICKLES, choose_weights, refuse_missing_parts, why_none
from probes.header import Header, TensorSpec, UnreadableModel

CONFIG_CAP = 16 << 20
"""Longest JSON file that is read, in bytes; the largest published weight index has under 10 MB."""
PIPELINE_INDEX, ADAPTER_INDEX = "model_index.json", "adapter_config.json"
CONFIGS = ("config.json", "scheduler_config.json")
_COMPONENT = re.compile(r"\w{1,100}")
"""Names of a pipeline's parts: arguments in Python, and so never a way out of the folder."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder's JSON and headers, from disk or fetched in parts.

    `index`: model_index.json or adapter_config.json, None when there is neither; `configs`: component -> its config (""
    for the folder itself); `headers`: component -> header of its weights, shards merged; `pickles`: components that
    have nothing but pickles; `unused`: component -> why none of its weights count, where it seems to have some.
    """

    index: Mapping[str, Any] | None
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    headers: Mapping[str, Header] = field(default_factory=dict)
    name: str = ""
    pickles: tuple[str, ...] = ()
    unused: Mapping[str, str] = field(default_factory=dict)


def merge_headers(shards: list[Header]) -> Header:
    """One header out of a sharded model's; metadata of the first shard that has any. Raises UnreadableModel where two have
    a tensor of one name."""
    if len(shards) == 1:
        return shards[0]
    tensors: dict[str, TensorSpec] = {}
    for shard in shards:
        if twice := tensors.keys() & shard.tensors.keys():
            raise UnreadableModel(
                "duplicate_names",
                f"Two of the model's files have a tensor {min(twice)[:80]!r}: nothing tells which one counts.",
            )
        tensors.update(shard.tensors)
    metadata = next((shard.metadata for shard in shards if shard.metadata), {})
    sizes = [shard.size for shard in shards]
    size = None if None in sizes else sum(s for s in sizes if s is not None)
    return Header(tensors, metadata, shards[0].format, size, sum(shard.header_bytes for shard in shards))


def read_folder(path: str | Path) -> Folder:
    """Reads a folder's JSON files and weight headers. Raises UnreadableModel where it is no model's folder, a file is
    broken, or something may not be read."""
    path = Path(path)
    try:
        return _read_folder(path)
    except OSError as error:  # of a component that may not be looked into, or has gone since it was seen
        raise UnreadableModel("not_readable", f"{path} cannot be read ({error.strerror}).") from None


def _read_folder(path: Path) -> Folder:
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
    unused: dict[str, str] = {}
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
            refuse_missing_parts(chosen)
            headers[component] = merge_headers([read_header(place / name) for name in chosen])
        elif (component or index is not None or configs) and _only_pickles(files):
            pickles.append(component)
        elif not chosen and (why := why_none(files)):
            unused[component] = why
    if index is None and not headers and not pickles:
        raise UnreadableModel(
            "no_model_folder",
            unused.get("") or f"{path} holds no {PIPELINE_INDEX}, {ADAPTER_INDEX} or single .safetensors file.",
        )
    return Folder(index, configs, headers, path.name, tuple(pickles), unused)


def _only_pickles(files: Iterable[str]) -> bool:
    names = [name.lower() for name in files]
    return any(name.endswith(PICKLES) for name in names) and not any(name.endswith(".safetensors") for name in names)


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
