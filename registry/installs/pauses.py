"""How long to wait between tries while a connection is away."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat

from registry.errors import ModelshelfError

PAUSES = (5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds between tries, after those of a single request (origins/http.py) are used up; the last one again and again."""


class Pauses:
    """One wait for one connection; what comes meanwhile begins another."""

    def __init__(self, patience: float) -> None:
        """`patience`: seconds that are waited in all."""
        self._left = patience
        self._steps: Iterator[float] = chain(PAUSES, repeat(PAUSES[-1]))

    def next(self, error: ModelshelfError) -> float:
        """Seconds until the next try, at least as many as the server asks for while there is patience; 0: it is used up."""
        pause = min(max(next(self._steps), error.detail.get("retry_after") or 0.0), self._left)
        self._left -= pause
        return pause
