"""What is loaded in one tier of memory: leased by whoever works with it, kept afterwards, least recently used out first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from threading import Condition, Timer
from typing import Any, TypeVar

from registry.errors import NotResident, OutOfMemory, WrongState
from registry.holders import POLL_SECONDS, Holder, let_go

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """`nbytes` in bytes; `holders`: who works with it now; `idle` in seconds since nobody does."""

    key: str
    label: str
    nbytes: int
    holders: tuple[str, ...]
    idle: float

    @property
    def leases(self) -> int:
        return len(self.holders)


@dataclass(slots=True)
class _Slot:
    label: str
    nbytes: int
    holders: list[Holder]
    used: float
    value: Future[Any] = field(default_factory=Future)

    @property
    def names(self) -> str:
        return ", ".join(holder.name for holder in self.holders)


Gone = list[tuple[str, _Slot]]


class _GivenUp(Exception):
    """Nobody wanted what was being loaded."""


Evicted = Callable[[str, Any], None]
Release = Callable[[Any], int]


class Residency:
    """Values by key under a budget in bytes. Callable from any thread; what is leased is never evicted.

    `keep_alive`: seconds after which what nobody works with goes; None: when room is needed. `evicted` is told of each value that goes,
    outside of any lock and before its room is used. `release`: gives back what a value that nobody works with keeps for speed alone, and
    returns how many bytes that was; before anything goes, it is asked of all.
    """

    def __init__(
        self,
        budget: int,
        *,
        keep_alive: float | None = None,
        evicted: Evicted = lambda *_: None,
        release: Release = lambda _: 0,
    ) -> None:
        self.budget = budget
        self._release = release
        self._keep_alive = keep_alive
        self._evicted = evicted
        self._lock = Condition()  # told of whatever leaves room
        # Who wait for others, and give up nothing meanwhile; where it is for a load, for which: that ends without them.
        self._stuck: dict[Holder, _Slot | None] = {}
        self._slots: OrderedDict[str, _Slot] = OrderedDict()  # least recently used first
        self._timer: Timer | None = None

    @contextmanager
    def lease(
        self,
        key: str,
        size: Callable[[], int],
        load: Callable[[], T],
        *,
        holder: Holder | None = None,
        label: str = "",
    ) -> Iterator[T]:
        """The value of `key`; if it is not there, `size()` bytes are set free for it and it is loaded.

        Whoever asks for it meanwhile waits for the same load, and gets the same error if it fails; a failed load leaves nothing behind.

        Raises OutOfMemory: `size()` does not fit beside what is leased, or, for a holder who waits, never will; Cancelled: the holder wants
        it no longer.
        """
        holder = holder or Holder()
        slot = self._obtain(key, size, load, holder, label)
        try:
            yield slot.value.result()
        finally:
            self._leave(slot, holder)

    @contextmanager
    def lease_resident(self, key: str, *, holder: Holder | None = None) -> Iterator[Any]:
        """The value of `key` if it is there, or once another's load of it has ended; else None, also if that fails. Nothing is loaded."""
        holder = holder or Holder()
        with self._lock:
            slot = self._slots.get(key)
            if slot is not None:
                slot.holders.append(holder)
                self._slots.move_to_end(key)
        if slot is None:
            yield None
            return
        try:
            self._arrival(slot, holder)
            yield None if slot.value.exception() else slot.value.result()
        finally:
            self._leave(slot, holder)

    def go_on(self, key: str) -> None:
        """For `load` to call between two parts of its work: raises what gives it up when nobody who asked for `key` wants it any more."""
        with self._lock:
            if not any(holder.wanted() for holder in self._slots[key].holders):
                raise _GivenUp

    def resize(self, key: str, nbytes: int, holder: Holder | None = None) -> None:
        """What `key` takes has changed; others make room for it. Its lessee's to call.

        Raises OutOfMemory and Cancelled as `lease`, and leaves everything as it is then.
        """
        holder = holder or Holder()

        def grow() -> Gone | None:
            slot = self._slots[key]
            gone = self._make_room(slot.label or key, nbytes, holder, slot)
            if gone is not None:
                slot.nbytes = nbytes
                self._lock.notify_all()
            return gone

        self._tell(self._once_there_is_room(grow, holder))

    def stuck(self, holder: Holder) -> AbstractContextManager[None]:
        """While `holder` waits for somebody else: nobody waits for what he holds, or each could wait for the other."""
        return self._waits(holder, None)

    @contextmanager
    def _waits(self, holder: Holder, loading: _Slot | None) -> Iterator[None]:
        with self._lock:
            self._stuck[holder] = loading
            self._lock.notify_all()
        try:
            yield
        finally:
            with self._lock:
                del self._stuck[holder]

    def evict(self, key: str) -> None:
        """Raises NotResident; WrongState: somebody works with it."""
        with self._lock:
            if (slot := self._slots.get(key)) is None:
                raise NotResident(f"{key} is not in memory.", key=key)
            if slot.holders:
                raise WrongState(f"{slot.label or key} is in use by {slot.names}.", key=key)
            del self._slots[key]
            self._lock.notify_all()
        self._tell([(key, slot)])

    def evict_idle(self, after: float = 0.0) -> None:
        """Everything that nobody has worked with for `after` seconds."""
        with self._lock:
            now = time.monotonic()
            gone = [(k, slot) for k, slot in self._slots.items() if not slot.holders and now - slot.used >= after]
            for key, _ in gone:
                del self._slots[key]
        self._tell(gone)

    def entries(self) -> tuple[Entry, ...]:
        """What is resident, least recently used first."""
        with self._lock:
            now = time.monotonic()
            return tuple(
                Entry(
                    key,
                    slot.label,
                    slot.nbytes,
                    tuple(holder.name for holder in slot.holders),
                    0.0 if slot.holders else now - slot.used,
                )
                for key, slot in self._slots.items()
            )

    def _obtain(self, key: str, size: Callable[[], int], load: Callable[[], T], holder: Holder, label: str) -> _Slot:
        """The slot of `key` with its value in it, held by `holder`."""
        while True:
            slot, gone = self._enter(key, size, holder, label)
            try:
                if gone is not None:
                    self._fill(key, slot, gone, load)
                self._arrival(slot, holder)
                slot.value.result()
            except _GivenUp:
                self._leave(slot, holder)
            except BaseException:
                self._leave(slot, holder)
                raise
            else:
                return slot
            holder.go_on()  # whoever still wants it came when it was too late for that load, and begins another

    def _enter(self, key: str, size: Callable[[], int], holder: Holder, label: str) -> tuple[_Slot, Gone | None]:
        """The slot of `key`; where it is new, it is the caller's to fill, and what made room for it comes with it."""
        nbytes = cache(size)  # which reads headers: once, however often room is looked for

        def enter() -> tuple[_Slot, Gone | None] | None:
            if (slot := self._slots.get(key)) is not None:
                slot.holders.append(holder)
                self._slots.move_to_end(key)
                return slot, None
            gone = self._make_room(label or key, nbytes(), holder)
            if gone is None:
                return None
            slot = self._slots[key] = _Slot(label, nbytes(), [holder], time.monotonic())
            return slot, gone

        return self._once_there_is_room(enter, holder)

    def _once_there_is_room(self, attempt: Callable[[], T | None], holder: Holder) -> T:
        """What `attempt` returns, under the lock, when it is no longer None. Raises Cancelled: it is not wanted any more."""
        with self._lock:
            if (done := attempt()) is not None:
                return done
            others = [(key, slot) for key, slot in self._slots.items() if slot.holders and slot.holders != [holder]]
            blocking = [f"{slot.label or key} ({slot.names})" for key, slot in others]
        assert holder.told is not None
        holder.told(f"room in memory, which {', '.join(blocking)} takes up")
        try:
            # the lock first: of two who would wait for each other only the later is refused
            with self._lock, self.stuck(holder):
                while (done := attempt()) is None:
                    self._lock.wait(POLL_SECONDS)
                    holder.go_on()
                return done
        finally:
            holder.told("")

    def _arrival(self, slot: _Slot, holder: Holder) -> None:
        """Returns when the load of `slot` has ended. Raises Cancelled: it is not wanted any more."""
        if slot.value.done():
            return
        with self._waits(holder, slot):
            while not wait((slot.value,), POLL_SECONDS).done:
                holder.go_on()

    def _leave(self, slot: _Slot, holder: Holder) -> None:
        with self._lock:
            slot.holders.remove(holder)
            slot.used = time.monotonic()
            self._lock.notify_all()
            if self._keep_alive is not None and not slot.holders and self._timer is None:
                self._wake_in(self._keep_alive)

    def _wake_in(self, seconds: float) -> None:
        self._timer = Timer(seconds, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def _expire(self) -> None:
        assert self._keep_alive is not None
        try:
            self.evict_idle(self._keep_alive)
        finally:
            with self._lock:
                self._timer = None
                idle = [slot.used for slot in self._slots.values() if not slot.holders]
                if idle:
                    self._wake_in(max(0.01, min(idle) + self._keep_alive - time.monotonic()))

    def _make_room(self, wanted: str, nbytes: int, holder: Holder, instead_of: _Slot | None = None) -> Gone | None:
        """What has to go. None: there is no room until others leave some, and `holder` waits for that. Raises OutOfMemory."""
        others = [(key, slot) for key, slot in self._slots.items() if slot is not instead_of]
        leased = sum(slot.nbytes for _, slot in others if slot.holders)
        if leased + nbytes > self.budget:
            stays = sum(
                slot.nbytes for _, slot in others if any(self._stays(slot, other, holder) for other in slot.holders)
            )
            if holder.told is not None and stays + nbytes <= self.budget:
                return None
            own = sum(slot.nbytes for _, slot in others if holder in slot.holders)
            raise OutOfMemory(
                f"{wanted} needs {nbytes / 2**20:.0f} MiB; the budget is {self.budget / 2**20:.0f} MiB, "
                f"of which {leased / 2**20:.0f} MiB are in use. {_remedy(own + nbytes > self.budget)}",
                needed=nbytes,
                budget=self.budget,
                in_use=leased,
            )
        used = sum(slot.nbytes for _, slot in others)
        idle = [(key, slot) for key, slot in others if not slot.holders]
        for _, slot in idle if used + nbytes > self.budget else ():
            freed = self._release(slot.value.result())
            slot.nbytes -= freed
            used -= freed
        gone = []
        for key, slot in idle:
            if used + nbytes <= self.budget:
                break
            used -= slot.nbytes
            gone.append((key, self._slots.pop(key)))
        return gone

    def _stays(self, slot: _Slot, of: Holder, asking: Holder) -> bool:
        """Whether `of` keeps hold of `slot` for as long as `asking` waits."""
        waits = of in self._stuck and self._stuck[of] is not slot
        return of is asking or (waits and of.wanted())  # who wants nothing any more is about to let go

    def _tell(self, gone: Gone) -> None:
        """Empties the list: what stood in it would stay in memory as long as the list does, which for a lease is the whole lease."""
        while gone:
            key, slot = gone.pop(0)
            self._evicted(key, slot.value.result())

    def _fill(self, key: str, slot: _Slot, gone: Gone, load: Callable[[], T]) -> None:
        try:
            self._tell(gone)
            slot.value.set_result(load())
        except BaseException as error:
            let_go(error)  # what has been loaded so far is out of memory before its room is another's
            with self._lock:
                del self._slots[key]
                self._lock.notify_all()
            slot.value.set_exception(error)


def _remedy(never: bool) -> str:
    if not never:
        return "Try again when that has ended."
    return (
        "It never fits: raise MODELSHELF_MEMORY_GIB, or take a smaller model or the same in half precision or float8."
    )
