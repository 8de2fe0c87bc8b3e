"""One value for all threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from registry.once import Once


def test_threads_that_ask_at_once_get_the_same() -> None:
    made, start, slow = [], Barrier(4), Event()

    def make() -> object:
        made.append(1)
        slow.wait(0.05)
        return object()

    once = Once(make)
    assert once.made is None

    def ask(_: int) -> object:
        start.wait()
        return once()

    with ThreadPoolExecutor(4) as threads:
        values = {id(value) for value in threads.map(ask, range(4))}
    assert (len(values), len(made)) == (1, 1)
    assert once.made is once()


def test_a_failure_is_not_kept() -> None:
    outcomes = iter([OSError("no room"), None])

    def make() -> str:
        if error := next(outcomes):
            raise error
        return "made"

    once = Once(make)
    with pytest.raises(OSError, match="no room"):
        once()
    assert (once(), once.made) == ("made", "made")
