"""Installs in the background: so many at once, oldest first, and none that waits, for a network or for another install, keeps a third from
working."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_ASIDE = 64
"""While so many are aside, no other begins: each has a thread, and looks at its row now and then."""
LOOK_SECONDS = 0.2  # between two questions whether the wait for a place is still wanted

Aside = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""`Crew.aside`, given `check`, which raises when the wait is no longer wanted. All waits of a task go by it: one that kept its place
while it waits for what another has, which waits for a place, would wait for ever."""


def stay(_: Callable[[], None]) -> AbstractContextManager[None]:
    """For who is in no crew."""
    return nullcontext()


class Crew(Generic[T]):
    """`size` tasks at a time, each in a thread of its own."""

    def __init__(self, size: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(size + MOST_ASIDE, thread_name_prefix=name)
        self._waiting: deque[tuple[Future[T], Callable[[], T]]] = deque()
        self._turn = Condition()
        self._free = size
        self._aside = 0
        self._returning = 0
        self._closed = False

    def submit(self, task: Callable[[], T]) -> Future[T]:
        """Raises RuntimeError after `close`."""
        future: Future[T] = Future()
        with self._turn:
            if self._closed:
                raise RuntimeError("No task begins any more.")
            self._waiting.append((future, task))
            self._fill()
        return future

    @contextmanager
    def aside(self, check: Callable[[], None]) -> Iterator[None]:
        """For a task: another works in its place meanwhile. Afterwards it waits for one, before those that have not begun; `check` is
        called then, and raises to give up."""
        with self._turn:
            self._aside += 1
            self._leave()
        has_place = False
        try:
            yield
            self._come_back(check)
            has_place = True
        finally:
            with self._turn:
                self._aside -= 1
                self._free -= not has_place  # it gave up: ending, it gives back a place that it has not taken
                self._fill()

    def close(self, *, cancel: bool = False) -> None:
        """Wait for all to end; `cancel`: those that have not begun never do."""
        with self._turn:
            self._closed = True
            while cancel and self._waiting:
                self._waiting.popleft()[0].cancel()
            self._turn.wait_for(lambda: not self._waiting)
        self._threads.shutdown(wait=True)

    def _fill(self) -> None:
        while self._free > 0 and self._waiting and not self._returning and self._aside < MOST_ASIDE:
            self._free -= 1
            self._threads.submit(self._work, *self._waiting.popleft())
        self._turn.notify_all()

    def _leave(self) -> None:
        with self._turn:
            self._free += 1
            self._fill()

    def _come_back(self, check: Callable[[], None]) -> None:
        with self._turn:
            self._returning += 1
        try:
            while not self._took_place():
                check()
        finally:
            with self._turn:
                self._returning -= 1
                self._fill()

    def _took_place(self) -> bool:
        with self._turn:
            if took := self._turn.wait_for(lambda: self._free > 0, LOOK_SECONDS):
                self._free -= 1
            return took

    def _work(self, future: Future[T], task: Callable[[], T]) -> None:
        try:
            if future.set_running_or_notify_cancel():
                future.set_result(task())
        except BaseException as error:  # whoever asks the future is told
            future.set_exception(error)
        finally:
            self._leave()
