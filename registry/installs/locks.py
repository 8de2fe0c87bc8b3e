"""Locks between threads and processes: a file each, let go by the kernel when its holder is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from registry.installs.crew import Aside, stay

_LOOK_SECONDS = 0.2  # between two questions whether the wait is still wanted


@contextmanager
def held(path: Path, check: Callable[[], None] = lambda: None, aside: Aside = stay) -> Iterator[None]:
    """Wait for the lock, `aside`, and hold it. `check` is called while waiting, and raises to give up.

    The file is removed by its holder: a waiter that has opened it before sees that it has no name any more, and opens the next one
    (filelock does so, as `flock` itself would not).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    check()
    try:
        if not _took(lock, 0):
            with aside(check):
                while not _took(lock, _LOOK_SECONDS):
                    check()
        yield
    finally:
        if lock.is_locked:
            path.unlink(missing_ok=True)
            lock.release()


def _took(lock: FileLock, seconds: float) -> bool:
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    return True


class Locks:
    """Several, held together. All who take some of the same take them in one order, so that no two wait for each other."""

    def __init__(self, paths: Iterable[Path], check: Callable[[], None], aside: Aside) -> None:
        self._paths = sorted(paths)
        self._check = check
        self._aside = aside
        self._held = ExitStack()

    def __enter__(self) -> Locks:
        with ExitStack() as taken:
            for path in self._paths:
                taken.enter_context(held(path, self._check, self._aside))
            self._held = taken.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Others may take them meanwhile; what ends in an error does not take them again."""
        self._held.close()
        yield
        self.__enter__()


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock when nobody does: whether it is held now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    if not _took(lock, 0):
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        lock.release()
