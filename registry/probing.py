"""What a user names, as things to probe: each with its headers and the hints that come with it. Headers only are read,
on disk or by Range requests."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from probes import (
    Folder,
    Header,
    Hints,
    UnreadableModel,
    choose_weights,
    merge_headers,
    read_header,
    read_target,
)
from registry.cards import parse_card
from registry.errors import NoWeights, UnusableFile
from registry.installs.examine import connection, header_at, read_json
from registry.installs.origins import Listing, Origin, RemoteFile, open_origin
from registry.installs.origins.folder import card_beside
from registry.installs.selection import CONFIGS, INDEX, PICKLES, WEIGHTS, folder_from, options
from registry.settings import Settings
from registry.sources import HubSource, PathSource, Source, parse_source

ADAPTER_INDEX = "adapter_config.json"
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\.\w+)$")

Target = tuple[Header | Folder, Hints]
Looked = TypeVar("Looked")


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
    source = parse_source(text, endpoint=settings.hub_endpoint)
    if isinstance(source, PathSource):
        yield from _on_disk(source.path, text)
        return
    with open_origin(source, **connection(settings)) as origin:
        yield from _elsewhere(source, text, origin)


# --- on disk ---


def _on_disk(path: Path, text: str) -> Iterator[Input]:
    if not path.is_dir() or _is_one_model(_readably(_file_names, path)):
        yield Input(text, partial(_load_path, path))
        return
    found = False
    for place, names in _models_below(path):
        found = True
        shown = Path(text, place.relative_to(path))
        yield Input(str(shown / _joint_name(names) if names else shown), partial(_load_found, place, names))
    if not found:
        raise NoWeights(f"There is no model ({', '.join((*WEIGHTS, *PICKLES))}, or a model's folder) in {path}.")


def _is_one_model(names: Iterable[str]) -> bool:
    """A diffusers pipeline, a PEFT adapter, or one component: weights beside their configuration."""
    names = sorted(names)
    return INDEX in names or (not {ADAPTER_INDEX, *CONFIGS}.isdisjoint(names) and choose_weights(names) != [])


def _file_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_file()]


def _models_below(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders that are models, with no names; and folders with the names of a file, or of a model's shards, in them.
    Folders that cannot be looked into come last, as models do, to be refused when they are loaded.

    Hidden names are passed over; links to files are followed, links to folders are not.
    """
    refused: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=refused.append):
        place = Path(folder)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if place != root and _is_one_model(names):
            folders.clear()
            yield place, []
            continue
        for group in _shard_groups(name for name in names if not name.startswith(".")):
            yield place, group
    for error in refused:
        yield Path(error.filename), []


def _load_found(place: Path, names: list[str]) -> Target:
    if len(names) < 2:
        return _load_path(place.joinpath(*names))
    return merge_headers([read_header(place / name) for name in names]), _hints_beside(place / names[0])


def _load_path(path: Path) -> Target:
    target, told = _readably(read_target, path)
    return target, _hints_beside(path) if told is None else told


def _readably(look: Callable[[Path], Looked], path: Path) -> Looked:
    try:
        return look(path)
    except OSError as error:
        raise UnreadableModel(
            "not_readable", f"{path} cannot be read ({error.strerror}). Check its permissions."
        ) from error


def _hints_beside(path: Path) -> Hints:
    return _hints(None, path.name, card_beside(path))


# --- elsewhere ---


def _elsewhere(source: Source, text: str, origin: Origin) -> Iterator[Input]:
    listing = origin.listing()
    files = {file.path: file for file in listing.files}
    if listing.focus in files:
        yield Input(text, partial(_load_files, origin, listing, [files[listing.focus]]))
        return
    prefix = f"{listing.focus.rstrip('/')}/" if listing.focus else ""
    inside = {path.removeprefix(prefix): file for path, file in files.items() if path.startswith(prefix)}
    here = {name: file for name, file in inside.items() if "/" not in name}
    if INDEX in here:
        yield Input(text, partial(_load_pipeline, origin, listing, here[INDEX]))
    elif {ADAPTER_INDEX, *CONFIGS} & here.keys() and choose_weights(sorted(here)):
        yield Input(text, partial(_load_component, origin, listing, here))
    elif groups := _shard_groups(inside):
        for group in groups:
            path = prefix + (group[0] if len(group) == 1 else _joint_name(group))
            name = str(replace(source, path=path)) if isinstance(source, HubSource) else path
            yield Input(name, partial(_load_files, origin, listing, [inside[member] for member in group]))
    else:
        options(listing, partial(read_json, origin))  # says what is missing
        raise NoWeights(f"There is no model in {listing.source}.")


def _load_files(origin: Origin, listing: Listing, files: list[RemoteFile]) -> Target:
    header = merge_headers([header_at(origin, file) for file in files])
    return header, _hints(listing.repo_id, files[0].path.rpartition("/")[2], listing.card)


def _load_component(origin: Origin, listing: Listing, here: Mapping[str, RemoteFile]) -> Target:
    index = read_json(origin, here[ADAPTER_INDEX]) if ADAPTER_INDEX in here else None
    config = next((here[name] for name in CONFIGS if name in here), None)
    configs = {} if config is None else {"": read_json(origin, config)}
    weights = merge_headers([header_at(origin, here[name]) for name in choose_weights(sorted(here))])
    return Folder(index, configs, {"": weights}), _hints(listing.repo_id, None, listing.card)


def _load_pipeline(origin: Origin, listing: Listing, index: RemoteFile) -> Target:
    try:
        selection = options(listing, partial(read_json, origin))[0][0]
    except UnusableFile as error:
        if error.detail.get("probe") != "pickle":
            raise
        component = str(error.detail["file"]).split("/")[-2]
        return Folder(read_json(origin, index), pickles=(component,)), _hints(listing.repo_id, None, listing.card)
    return folder_from(selection, partial(read_json, origin), partial(header_at, origin)), _hints(
        listing.repo_id, None, listing.card
    )


def _hints(repo_id: str | None, filename: str | None, card_text: str | None) -> Hints:
    card = parse_card(card_text)
    return Hints(repo_id=repo_id, filename=filename, card=card.front, card_text=card.prose)


# --- names ---


def _shard_groups(names: Iterable[str]) -> list[list[str]]:
    """The model files among names, the shards of one model together."""
    models = sorted(name for name in names if name.lower().endswith((*WEIGHTS, *PICKLES)))
    return [list(group) for _, group in groupby(models, key=_joint_key)]


def _joint_key(name: str) -> str:
    shard = _SHARD.match(name)
    return name if shard is None else f"{shard['stem']}-*-of-{shard['count']}{shard['suffix']}"


def _joint_name(names: list[str]) -> str:
    return names[0] if len(names) == 1 else _joint_key(names[0])
