"""A value that is dear to make and made when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """What `make` returns, for all threads the same: whoever asks while it is made waits. If it raises, the next asks again.

    functools.cached_property has had no lock since Python 3.12 (https://docs.python.org/3/whatsnew/3.12.html#functools).
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = Lock()
        self._made: T | None = None

    def __call__(self) -> T:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    @property
    def made(self) -> T | None:
        """None: nobody has asked for it yet."""
        return self._made
