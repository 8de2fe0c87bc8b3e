"""What an adapter's module paths say of an architecture, widths aside: remembered, as the adapters of one trainer for one
network all have the same paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeVar

from probes.names import remembered

Paths = tuple[str, ...]
W = TypeVar("W", bound=Hashable)
T = TypeVar("T")


@remembered
def _made(paths: Paths) -> dict[Hashable, Any]:
    """What has been made of a set of paths so far: one or two answers for each of some twenty architectures."""
    return {}


def _once(work: Callable[[W, Paths], T]) -> Callable[[W, Paths], T]:
    """`work` on an architecture or a grammar and a set of paths, done once as long as the set is remembered."""

    def call(what: W, paths: Paths) -> T:
        made = _made(paths)
        if (work, what) not in made:
            made[work, what] = work(what, paths)
        answer: T = made[work, what]
        return answer

    return call


class Architecture(Hashable, Protocol):
    """A denoiser's layers under each naming it is published with: flattened path -> (input width, output width)."""

    @property
    def name(self) -> str: ...
    @property
    def namings(self) -> tuple[Mapping[str, tuple[int, int]], ...]: ...
    def sort(self, path: str) -> str:
        """A layer's path without its place: all layers of a sort are alike, and are adapted together or not at all."""


class Fitting(NamedTuple):
    """Input and output widths of the layers that the paths name, up to `stranger`, the first that names none."""

    inners: tuple[int, ...]
    outers: tuple[int, ...]
    stranger: str | None
    naming: int


@_once
def fitting(architecture: Architecture, paths: Paths) -> Fitting:
    """The paths held against the naming that knows most of them before the first that it does not, which another naming
    may know: files that were merged from two have both."""
    counts = [
        next((at for at, path in enumerate(paths) if path not in layers), len(paths)) for layers in architecture.namings
    ]
    known = max(counts)
    naming = counts.index(known)
    widths = [architecture.namings[naming][path] for path in paths[:known]]
    for path in paths[known:]:
        found = next((layers[path] for layers in architecture.namings if path in layers), None)
        if found is None:
            break
        widths.append(found)
    known = len(widths)
    stranger = paths[known] if known < len(paths) else None
    return Fitting(tuple([inner for inner, _ in widths]), tuple([outer for _, outer in widths]), stranger, naming)


@_once
def left_out(architecture: Architecture, paths: Paths) -> str | None:
    """A layer that no path names, of a sort of which others are named."""
    there = set(paths)
    sorts, alike = _sorted(architecture, fitting(architecture, paths).naming)
    touched = {sorts[path] for path in paths if path in sorts}
    return next(
        (path for sort, layers in alike.items() if sort in touched for path in layers if path not in there), None
    )


@lru_cache(256)
def _sorted(architecture: Architecture, naming: int) -> tuple[Mapping[str, str], Mapping[str, list[str]]]:
    """Path -> its sort, and sort -> all its paths."""
    sorts = {path: architecture.sort(path) for path in architecture.namings[naming]}
    alike: dict[str, list[str]] = {}
    for path, sort in sorts.items():
        alike.setdefault(sort, []).append(path)
    return sorts, alike


@_once
def foreign(grammar: str, paths: Paths) -> str | None:
    """The first path that is not of this grammar, a regular expression."""
    fits = re.compile(grammar).match
    return next((path for path in paths if not fits(path)), None)
