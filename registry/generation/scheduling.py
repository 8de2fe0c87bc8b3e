"""Which of those that wait goes next: pure, so that its promises can be tested on any sequence of requests.

Loading a checkpoint takes seconds, putting a LoRA set on milliseconds to seconds; the same again takes nothing. So a request that is like
the last one goes before an older one that is not, but nobody is overtaken more than `bound` times.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

T = TypeVar("T")

Affinity = tuple[Hashable, ...]
"""What a request needs to be in place, the dearest first: (checkpoint, LoRAs, LoRAs with their weights)."""


@dataclass(frozen=True, slots=True)
class Waiting(Generic[T]):
    """`overtaken`: how many that came later have gone before it."""

    item: T
    affinity: Affinity
    overtaken: int = 0


def take(queue: Sequence[Waiting[T]], last: Affinity, bound: int) -> tuple[Waiting[T], tuple[Waiting[T], ...]]:
    """The next of `queue` (oldest first, not empty), and those that still wait.

    It is the oldest of those that share the most with `last`, or the very oldest once that has been overtaken `bound` times. Those behind
    it have been overtaken no more often than it, so that the bound holds for all.
    """
    oldest = queue[0]
    index = 0
    if oldest.overtaken < bound:
        index = max(range(len(queue)), key=lambda i: (shared(queue[i].affinity, last), -i))
    passed = (replace(waiting, overtaken=waiting.overtaken + 1) for waiting in queue[:index])
    return queue[index], (*passed, *queue[index + 1 :])


def shared(one: Affinity, other: Affinity) -> int:
    """How many leading parts are equal."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
