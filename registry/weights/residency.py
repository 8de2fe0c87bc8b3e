"""What is loaded: leased by whoever works with it, kept afterwards, least recently used out first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

from registry.errors import OutOfMemory

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """`nbytes` in bytes; `leases`: how many work with it now."""

    key: str
    nbytes: int
    leases: int


@dataclass(slots=True)
class _Slot:
    nbytes: int
    leases: int = 1
    value: Future[Any] = field(default_factory=Future)


class Residency:
    """Values by key under a budget in bytes. Callable from any thread; what is leased is never evicted."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._lock = Lock()
        self._slots: OrderedDict[str, _Slot] = OrderedDict()  # least recently used first

    @contextmanager
    def lease(self, key: str, size: Callable[[], int], load: Callable[[], T]) -> Iterator[T]:
        """The value of `key`; if it is not there, `size()` bytes are set free for it and it is loaded.

        Whoever asks for it meanwhile waits for the same load, and gets the same error if it fails; a failed load leaves nothing behind.

        Raises OutOfMemory: `size()` does not fit beside what is leased.
        """
        slot, loads = self._enter(key, size)
        try:
            if loads:
                self._fill(key, slot, load)
            yield slot.value.result()
        finally:
            with self._lock:
                slot.leases -= 1

    def entries(self) -> tuple[Entry, ...]:
        """What is resident, least recently used first."""
        with self._lock:
            return tuple(Entry(key, slot.nbytes, slot.leases) for key, slot in self._slots.items())

    def _enter(self, key: str, size: Callable[[], int]) -> tuple[_Slot, bool]:
        with self._lock:
            if (slot := self._slots.get(key)) is not None:
                slot.leases += 1
                self._slots.move_to_end(key)
                return slot, False
            nbytes = size()
            self._make_room(key, nbytes)
            slot = self._slots[key] = _Slot(nbytes)
            return slot, True

    def _make_room(self, wanted: str, nbytes: int) -> None:
        leased = sum(slot.nbytes for slot in self._slots.values() if slot.leases)
        if leased + nbytes > self.budget:
            raise OutOfMemory(
                f"{wanted} needs {nbytes / 2**20:.0f} MiB; the budget is {self.budget / 2**20:.0f} MiB, "
                f"of which {leased / 2**20:.0f} MiB are in use.",
                needed=nbytes,
                budget=self.budget,
                in_use=leased,
            )
        used = sum(slot.nbytes for slot in self._slots.values())
        for idle in [key for key, slot in self._slots.items() if not slot.leases]:
            if used + nbytes <= self.budget:
                return
            used -= self._slots.pop(idle).nbytes

    def _fill(self, key: str, slot: _Slot, load: Callable[[], T]) -> None:
        try:
            slot.value.set_result(load())
        except BaseException as error:
            with self._lock:
                del self._slots[key]
            slot.value.set_exception(error)
