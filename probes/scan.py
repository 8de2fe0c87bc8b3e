"""Every model in a folder tree, and what it is; what has not changed since it was last looked at costs one stat."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from probes.containers.file import read_header
from probes.containers.folder import ADAPTER_INDEX, PIPELINE_INDEX, Folder, read_folder
from probes.containers.weight_names import OTHERS, PICKLES, STEMS, choose_weights
from probes.engine import probe
from probes.header import Header, UnreadableModel
from probes.report import Evidence, Hints, Outcome, Report

WEIGHTS = (".safetensors", *OTHERS)
SUFFIXES = (*WEIGHTS, *PICKLES)
"""Files that are looked at; pickles too, so that a report says why they are of no use."""
_INDEXES = frozenset({PIPELINE_INDEX, ADAPTER_INDEX, *(f"{stem}.safetensors.index.json" for stem in STEMS)})
"""What makes a folder one model as a whole: the index of a pipeline, of a PEFT adapter, or of shards."""
_SIGNED = (1 << 63) - 1
FLEETING = ("not_found", "not_readable")
"""Refusals whose cause (permissions, a disk) may go away without a trace in any stamp."""


class Stamp(NamedTuple):
    """What changes when a file does: bytes, nanoseconds since 1970, inode; each fits a signed 64-bit column.

    Of a folder that is one model: over its files and those one level down, the sums, and the latest time.
    """

    size: int
    mtime_ns: int
    inode: int


class Place(NamedTuple):
    """Where a model is: a file, or a folder that is one. `stamp` raises OSError where it cannot be looked at, UnreadableModel where it may
    not be."""

    path: str
    stamp: Callable[[], Stamp]
    is_folder: bool


class Found(NamedTuple):
    """A model file or folder. `stamp` None: the answer must not be remembered. `fresh`: it was read just now."""

    path: str
    stamp: Stamp | None
    report: Report
    fresh: bool


def by_name(path: str) -> Hints:
    """The file's own name as a hint: in a folder there is often nothing else that says "LCM"."""
    return Hints(filename=Path(path).name)


def scan_folder(
    root: str | Path,
    known: Mapping[str, tuple[Stamp, Report]] | None = None,
    hints: Callable[[str], Hints] = by_name,
    may_read: Callable[[Path], bool] | None = None,
) -> Iterator[Found]:
    """All models under `root`, one at a time, each folder in the order of its names. Headers are read, tensors never.

    `known`: path -> stamp and report, as an earlier scan gave them. It is asked once a path, so it may be a database; a
    report is taken from it when the stamp is still the same. Reports of an older modelshelf are the caller's to leave
    out. `hints`: path -> what is known beside the bytes, asked for what is read. `may_read`: asked of every link.

    Memory is bounded by the largest folder's names and one header. What cannot be read, or is no model in spite of its
    suffix, is reported (`unusable`, with the code in its evidence) and not raised.

    Raises UnreadableModel where `root` is no folder.
    """
    known = {} if known is None else known
    for place in models_below(root, may_read):
        yield _look(place, known, hints)


def look_at(path: str, hints: Callable[[str], Hints] = by_name) -> Found:
    """One file, or a folder that is one model, as a scan of the folder that it is in finds it."""
    return _look(Place(path, lambda: stamp_of(path), Path(path).is_dir()), {}, hints)


def stamp_of(path: str) -> Stamp:
    """Of one file, or of a folder that is one model. Raises OSError."""
    return _folder_stamp(path, _entries(path)) if Path(path).is_dir() else _file_stamp(Path(path))


def models_below(root: str | Path, may_read: Callable[[Path], bool] | None = None) -> Iterator[Place]:
    """Where the models under `root` are; also folders that cannot be looked into, whose stamp raises.

    Links are followed; a folder is visited once, by its real place if that is under `root`. Names that begin with a dot
    are passed over. Where `may_read` says no of a link, what is behind it is not looked at, nor a folder that is one model with such a link
    in it: it has a stamp that raises UnreadableModel ("outside"). Raises UnreadableModel where `root` is no folder.
    """
    if not Path(root).is_dir():
        raise UnreadableModel("not_found", f"There is no folder {root}.")
    visited: set[tuple[int, int]] = set()
    pending = deque([os.fspath(root)])
    while pending:
        folder = pending.popleft()
        try:
            place = Path(folder).stat()
            entries = _entries(folder)
        except OSError as error:
            yield Place(folder, partial(_raise, error), True)
            continue
        if (place.st_dev, place.st_ino) in visited:
            continue
        visited.add((place.st_dev, place.st_ino))
        names = [entry.name for entry in entries]
        if may_read is not None and is_one_model(names) and _leads_out(folder, may_read):
            yield Place(folder, partial(_raise, _outside(folder)), True)
            continue
        for entry in [e for e in entries if may_read is not None and e.is_symlink() and not may_read(Path(e.path))]:
            entries.remove(entry)
            if _is_folder(entry) or entry.name.lower().endswith(SUFFIXES):
                yield Place(entry.path, partial(_raise, _outside(entry.path)), False)
        folders = [entry for entry in entries if _is_folder(entry)]
        inner = {entry.name for entry in folders}
        if is_one_model(names):
            yield Place(folder, partial(_folder_stamp, folder, entries), True)
            # What else lies there is a model by itself: repositories keep single-file versions beside a pipeline.
            inner.update(() if PIPELINE_INDEX in names else choose_weights(names))
            folders = []
        # Links wait until every real folder has been seen.
        pending.extendleft(entry.path for entry in reversed(folders) if not entry.is_symlink())
        pending.extend(entry.path for entry in folders if entry.is_symlink())
        entries.reverse()
        while entries:  # each goes when it has been looked at, with the stat that it keeps
            entry = entries.pop()
            if entry.name.lower().endswith(SUFFIXES) and entry.name not in inner:
                yield Place(entry.path, partial(_file_stamp, entry), False)


def is_one_model(names: Iterable[str]) -> bool:
    """Whether a folder with these files is one model as a whole: a pipeline, a PEFT adapter, or shards with an index."""
    return not _INDEXES.isdisjoint(names)


def _raise(error: Exception) -> Stamp:
    raise error


def _outside(path: str) -> UnreadableModel:
    return UnreadableModel("outside", f"{path} is or holds a link to where nothing may be read from.")


def _leads_out(folder: str, may_read: Callable[[Path], bool]) -> bool:
    """Whether a link in the folder, at any depth, leads to what may not be read."""
    visited = set[str]()
    for at, folders, files in os.walk(folder, followlinks=True):  # a link is asked about before it is gone into
        if (real := os.path.realpath(at)) in visited:
            folders.clear()
            continue
        visited.add(real)
        if any(path.is_symlink() and not may_read(path) for path in (Path(at, name) for name in (*folders, *files))):
            return True
    return False


def _look(place: Place, known: Mapping[str, tuple[Stamp, Report]], hints: Callable[[str], Hints]) -> Found:
    path = place.path
    try:
        stamp = place.stamp()
    except OSError as error:
        return Found(path, None, _cannot_be_read(path, error), True)
    except UnreadableModel as refused:
        return Found(path, None, _unusable(path, refused), True)
    before = known.get(path)
    if before is not None and before[0] == stamp:
        return Found(path, stamp, before[1], False)
    read: Callable[[str], Header | Folder] = read_folder if place.is_folder else read_header  # a dump is no model
    try:
        return Found(path, stamp, replace(probe(read(path), hints(path)), source=path), True)
    except UnreadableModel as refused:
        return Found(path, None if refused.code in FLEETING else stamp, _unusable(path, refused), True)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # a ring of links: met again, and reported, when its stamp is asked for
        return entry.is_dir()
    return False


def _file_stamp(entry: os.DirEntry[str] | Path) -> Stamp:
    stat = entry.stat()
    return Stamp(stat.st_size, stat.st_mtime_ns, stat.st_ino & _SIGNED)


def _folder_stamp(folder: str, entries: list[os.DirEntry[str]]) -> Stamp:
    files = [entry for entry in entries if not _is_folder(entry)]
    for entry in entries:
        if _is_folder(entry):
            files += [inner for inner in _entries(entry.path) if not _is_folder(inner)]
    if not files:
        raise FileNotFoundError(errno.ENOENT, "the folder is empty", folder)
    sizes, times, inodes = zip(*map(_file_stamp, files), strict=True)
    return Stamp(sum(sizes), max(times), sum(inodes) & _SIGNED)


def _cannot_be_read(path: str, error: OSError) -> Report:
    return _unusable(path, UnreadableModel("not_readable", f"{path} cannot be read ({error.strerror})."))


def _unusable(path: str, refused: UnreadableModel) -> Report:
    evidence = Evidence("readable", False, None, "a whole model file", refused.code)
    return Report(Outcome.UNUSABLE, str(refused), evidence=(evidence,), source=path)
