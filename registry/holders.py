"""Who works with what is loaded, for as long as he wants to, and what he is told while he waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from traceback import clear_frames

from registry.errors import Cancelled

POLL_SECONDS = 0.1
"""Between two looks at whether what is waited for is still wanted."""

Told = Callable[[str], object]
GoOn = Callable[[], None]
"""Called between two parts of long work, which it ends by raising."""


@dataclass(frozen=True, slots=True, eq=False)
class Holder:
    """`name` is for people. `wanted`: False once he wants nothing any more. `told`: told what he waits for, and "" when that is over; None:
    he does not wait until others leave room."""

    name: str = ""
    wanted: Callable[[], bool] = lambda: True
    told: Told | None = None

    def go_on(self) -> None:
        """Raises Cancelled, when he wants nothing any more."""
        if not self.wanted():
            raise Cancelled("It is not wanted any more.")


@contextmanager
def locked(lock: Lock, go_on: GoOn) -> Iterator[None]:
    """`lock`, unless `go_on` raises while it is waited for."""
    while not lock.acquire(timeout=POLL_SECONDS):
        go_on()
    try:
        yield
    finally:
        lock.release()


def let_go(error: BaseException | None) -> None:
    """Of what the calls that ended with `error` worked on: an error that is kept would keep that in memory, too."""
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
