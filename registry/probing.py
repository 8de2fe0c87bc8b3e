"""What a user names, as things to probe: each with its headers and the hints that come with it. Headers only are read,
on disk or by Range requests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from probes import (
    SUFFIXES,
    Folder,
    Header,
    Hints,
    UnreadableModel,
    choose_weights,
    is_one_model,
    merge_headers,
    models_below,
    parse_dump,
    read_target,
    refuse_missing_parts,
)
from probes.containers.folder import ADAPTER_INDEX, CONFIGS, PIPELINE_INDEX
from probes.containers.weight_names import why_none
from probes.dump import MAYBE_DUMP
from registry.errors import NoWeights, UnusableFile
from registry.installs.examine import connection, header_at, hints_of, hints_of_file, read_json
from registry.installs.origins import Listing, Origin, RemoteFile, open_origin
from registry.installs.selection import folder_from, options
from registry.scans.beside import sidecars_and_card
from registry.settings import Settings
from registry.sources import HubSource, PathSource, Source, is_writable, parse_source

Target = tuple[Header | Folder, Hints]
Looked = TypeVar("Looked")
DUMP_CAP = 16 << 20
"""Longest header dump that is fetched, in bytes; a checkpoint's has a megabyte, and a twentieth of that when it is compressed."""


@dataclass(frozen=True, slots=True)
class Input:
    """One thing to probe. `source`: as the user can name it by itself; `load`: reads what a probe looks at, and raises
    UnreadableModel and the errors of origins."""

    source: str
    load: Callable[[], Target]


def inputs(text: str, settings: Settings) -> Iterator[Input]:
    """What `text` names: a file, a header dump, or a folder or repository that is one model, is one; of any other folder
    or repository, each model in it, pickles too. To be loaded one after the other, while the iterator is held.

    Raises the errors of sources and origins, and NoWeights where there is nothing to probe.
    """
    text = text.strip()
    source = _not_utf8(text) or parse_source(text, endpoint=settings.hub_endpoint)
    if isinstance(source, PathSource):
        yield from _on_disk(source.path, text)
        return
    with open_origin(source, **connection(settings)) as origin:
        yield from _elsewhere(source, text, origin)


# --- on disk ---


def _not_utf8(text: str) -> PathSource | None:
    """What is here under a name that is not UTF-8: no shelf records it, but it is looked at as it would be in its folder."""
    legible = text.encode(errors="replace").decode()
    if legible == text or not is_writable(legible) or not os.path.lexists(text):
        return None
    return PathSource(Path(text).absolute())


def _on_disk(path: Path, text: str) -> Iterator[Input]:
    if not path.is_dir() or _is_one_model(_readably(_file_names, path)):
        yield Input(text, partial(_load_path, path))
        return
    found = False
    for place in models_below(path):
        found = True
        yield Input(str(Path(text, Path(place.path).relative_to(path))), partial(_load_path, Path(place.path)))
    if not found:
        raise NoWeights(f"There is no model ({', '.join(SUFFIXES)}, or a model's folder) in {path}.")


def _is_one_model(names: Iterable[str]) -> bool:
    """Whether a folder with these files, which a user named, is one model: also a component of a pipeline, whose weights
    stand beside their configuration."""
    names = sorted(names)
    return is_one_model(names) or (not {*CONFIGS}.isdisjoint(names) and choose_weights(names) != [])


def _file_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_file()]


def _load_path(path: Path) -> Target:
    target, told = _readably(read_target, path)
    return target, sidecars_and_card(path, {}).hints if told is None else told


def _readably(look: Callable[[Path], Looked], path: Path) -> Looked:
    try:
        return look(path)
    except OSError as error:
        raise UnreadableModel("not_readable", f"{path} cannot be read ({error.strerror}).") from error


# --- elsewhere ---


def _elsewhere(source: Source, text: str, origin: Origin) -> Iterator[Input]:
    listing = origin.listing()
    files = {file.path: file for file in listing.files}
    if listing.focus in files:
        yield Input(text, partial(_load_file, origin, listing, files[listing.focus]))
        return
    prefix = f"{listing.focus.rstrip('/')}/" if listing.focus else ""
    inside = {path.removeprefix(prefix): file for path, file in files.items() if path.startswith(prefix)}
    here = {name: file for name, file in inside.items() if "/" not in name}
    if PIPELINE_INDEX in here:
        yield Input(text, partial(_load_pipeline, origin, listing, here[PIPELINE_INDEX]))
        return
    if _is_one_model(here):
        yield Input(text, partial(_load_component, origin, listing, here))
        return
    models = [file for name, file in sorted(inside.items()) if name.lower().endswith(SUFFIXES)]
    for file in models:
        name = str(replace(source, path=file.path)) if isinstance(source, HubSource) else file.path
        yield Input(name, partial(_load_file, origin, listing, file))
    if not models:
        raise NoWeights(f"There is no model ({', '.join(SUFFIXES)}) in {listing.repo_id or listing.source}.")


def _load_file(origin: Origin, listing: Listing, file: RemoteFile) -> Target:
    try:
        return header_at(origin, file), hints_of_file(origin, listing, file.path)
    except UnreadableModel as refused:
        if refused.code not in MAYBE_DUMP or (file.size or 0) > DUMP_CAP:
            raise
        dumped = parse_dump(origin.read(file, 0, DUMP_CAP))
        if dumped is None:
            raise
        return dumped


def _load_component(origin: Origin, listing: Listing, here: Mapping[str, RemoteFile]) -> Target:
    index = read_json(origin, here[ADAPTER_INDEX]) if ADAPTER_INDEX in here else None
    config = next((here[name] for name in CONFIGS if name in here), None)
    configs = {} if config is None else {"": read_json(origin, config)}
    chosen = choose_weights(sorted(here))
    refuse_missing_parts(chosen)
    shards = [header_at(origin, here[name]) for name in chosen]
    why = None if shards else why_none(sorted(here))
    folder = Folder(index, configs, {"": merge_headers(shards)} if shards else {}, unused={"": why} if why else {})
    return folder, hints_of(listing)


def _load_pipeline(origin: Origin, listing: Listing, index: RemoteFile) -> Target:
    try:
        ((selection,),) = options(listing, partial(read_json, origin))
        folder = folder_from(selection, partial(read_json, origin), partial(header_at, origin))
    except UnusableFile as error:
        if error.detail.get("probe") != "pickle":
            raise
        component = str(error.detail["file"]).split("/")[-2]
        folder = Folder(read_json(origin, index), pickles=(component,))
    return folder, hints_of(listing)
