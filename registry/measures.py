"""What happens, in numbers, for whoever counts: the service hands them to Prometheus, which nothing here knows of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum


class What(StrEnum):
    """What a number is of, and what its label says."""

    INSTALL_ENDED = "install ended"  # 1; label: installed, failed, cancelled
    BYTES_DOWNLOADED = "bytes downloaded"
    PROBED = "probed"  # seconds from a source's address to what its headers say
    GENERATION_ENDED = "generation ended"  # 1; label: succeeded, failed, cancelled
    GENERATION_WAITED = "generation waited"  # seconds in the queue
    GENERATION_PART = "generation part"  # seconds; label: load and adapters are what a switch costs, then encode, denoise, decode, total
    PICTURES = "pictures"  # that were made


Observer = Callable[[What, float, str], object]
"""Called from any thread with what, its number and its label ("": none); quick, and never raises."""


class Measures:
    """Tells every observer."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []

    def subscribe(self, observer: Observer) -> None:
        self._observers.append(observer)

    def tell(self, what: What, value: float = 1, label: str = "") -> None:
        for observer in self._observers:
            observer(what, value, label)

    @contextmanager
    def timed(self, what: What) -> Iterator[None]:
        """Of what does not raise."""
        started = time.monotonic()
        yield
        self.tell(what, time.monotonic() - started)
