"""What is told of an install while it runs: states and bytes, their rate, and how many have come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from registry.measures import Measures, What
from registry.tables import InstallState

RATE_SECONDS = 3.0  # a transfer's rate is the mean over them: steady enough to read, quick enough to show a stall


@dataclass(frozen=True, slots=True)
class Progress:
    """What an install is doing; bytes of the whole transfer. `trouble`: why it waits, and until when."""

    state: InstallState
    filename: str | None = None
    bytes_done: int = 0
    bytes_total: int = 0
    trouble: str | None = None


OnProgress = Callable[[Progress], None]


class Count:
    """Tells how many bytes have come since it was last asked; what was there before is not counted."""

    def __init__(self, measures: Measures, here: int) -> None:
        self._measures = measures
        self._last = here

    def to(self, of_file: int) -> None:
        come = of_file - self._last if of_file >= self._last else of_file  # less than before: begun anew
        self._last = of_file
        self._measures.tell(What.BYTES_DOWNLOADED, come)


class Rate:
    """Bytes a second over the last RATE_SECONDS; None until there is something to tell."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def of(self, done: int) -> float | None:
        now = time.monotonic()
        if self._points and done < self._points[-1][1]:  # begun anew
            self._points.clear()
        self._points.append((now, done))
        while len(self._points) > 2 and self._points[1][0] < now - RATE_SECONDS:
            self._points.popleft()
        (since, first), seconds = self._points[0], now - self._points[0][0]
        return (done - first) / seconds if seconds > 0 and since != now else None
