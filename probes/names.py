"""What a file's tensor names say by themselves, shapes aside, and how it is looked up."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

from probes.header import TensorSpec, once

T = TypeVar("T")

_NO_DIGITS = str.maketrans("", "", "0123456789")
_CLEAR: list[Callable[[], None]] = []
_SETS = 16
_NAMES = 5_000
_LETTERS = 1 << 18
"""Sets of names that each function remembers, names in one, and letters of these: the largest LoRAs have 3,000 names of 230,000.

With the parts of headers that probes.containers.safetensors remembers, all of it together takes 45 MB for the largest LoRAs, 3 MB for each
set of tensors, and 300 MB for forged headers: 16 times 13 MB of entries that say nothing in three bytes each, 16 times 1.5 MB of names
and paths from headers that are longer, and 16 times 2 MB for what a path is to each of the architectures.
"""


class _TooLong(Exception):
    pass


def remembered(work: Callable[[tuple[str, ...]], T]) -> Callable[[tuple[str, ...]], T]:
    """`work` on a set of names, remembered for the last ones: in a folder of thousands of LoRAs, those of one trainer
    and one network all have the same names, and little else about them takes time."""

    @lru_cache(_SETS)
    def cached(names: tuple[str, ...]) -> T:
        if sum(map(len, names)) > _LETTERS:  # asked here, that those which are known need not be counted
            raise _TooLong
        return work(names)

    def call(names: tuple[str, ...]) -> T:
        with suppress(_TooLong):
            if len(names) <= _NAMES:
                return cached(names)
        return work(names)

    _CLEAR.append(cached.cache_clear)
    return call


def kept(count: int) -> Callable[[Callable[[bytes], T]], Callable[[bytes], T]]:
    """The results of `work` remembered for the last `count` texts, whose length is the caller's to bound."""

    def keep(work: Callable[[bytes], T]) -> Callable[[bytes], T]:
        cached = lru_cache(count)(work)
        _CLEAR.append(cached.cache_clear)
        return cached

    return keep


def forget() -> None:
    """Forgets all that is remembered: for measuring what a first look costs."""
    for clear in _CLEAR:
        clear()


class Names:
    """All names of a header as one text, which is searched several times faster than each name is asked.

    In the order of the alphabet: whatever example or first one is taken of them, the file's order has no part in it.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names = tuple(sorted(names))
        self._endings: dict[str, tuple[str, ...]] = {}
        self._blocks: dict[str, int] = {}
        each: Iterable[str] = names
        while True:
            text = "\n".join(each)
            plain = text.encode("utf-8", "replace").translate(None, b"0123456789").split(b"\n")
            if len(plain) == len(names):
                break
            each = [name.replace("\n", " ") for name in names]  # no layer has such a name, with a space or without
        self._lines = f"\n{text}\n"
        self.patterns = tuple(sorted([line.decode() for line in set(plain)]))
        """Names without digits, each once: blocks become alike, and a hundred of an SDXL checkpoint's 2,515 remain."""
        self._few_lines = "\n".join([*self.patterns, ""])

    def begin(self, root: str) -> bool:
        """Whether some name does (roots have no digits)."""
        return not root or self.first(root) is not None

    def all_begin(self, root: str) -> bool:
        """Whether every name does, of which there is one at least (roots have no digits)."""
        return all(end.startswith(root) for end in (self.patterns[0], self.patterns[-1])) if self.names else False

    def mention(self, word: str) -> bool:
        """Whether some name has this in it (it has no digits)."""
        return word in self._few_lines

    def first(self, start: str) -> str | None:
        """The first pattern that begins so."""
        at = bisect_left(self.patterns, start)
        found = self.patterns[at] if at < len(self.patterns) else ""
        return found if found and found.startswith(start) else None

    def ending(self, suffix: str) -> tuple[str, ...]:
        """Those that end so."""
        if suffix not in self._endings:
            some = (
                f"{suffix.translate(_NO_DIGITS)}\n" in self._few_lines
            )  # a twentieth of the text, and most suffixes are none's
            pieces = self._lines.split(suffix + "\n")[:-1] if some else []
            self._endings[suffix] = tuple([piece[piece.rfind("\n") + 1 :] + suffix for piece in pieces])
        return self._endings[suffix]

    def parts_after(self, prefix: str) -> int:
        """How many different words follow `prefix`, up to the next dot."""
        if prefix not in self._blocks:
            pieces = self._lines.split("\n" + prefix)[1:]
            self._blocks[prefix] = len({piece.partition(".")[0].partition("\n")[0] for piece in pieces})
        return self._blocks[prefix]


names_of = remembered(Names)


@once
def names_in(tensors: Mapping[str, TensorSpec]) -> Names:
    return names_of(tuple(tensors))
