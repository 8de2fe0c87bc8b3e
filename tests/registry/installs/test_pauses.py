"""How long an install waits for a connection to come back."""

from __future__ import annotations

import pytest

from registry.errors import HubUnreachable
from registry.installs.pauses import Pauses


@pytest.mark.parametrize(
    ("patience", "asked", "expected"),
    [
        (600, None, [5, 10, 20, 40, 60, 60]),
        (30, None, [5, 10, 15, 0]),
        (600, 300, [300, 300, 0]),  # never sooner than the server wants it
        (100, 300, [100, 0]),
        (0, None, [0]),
    ],
)
def test_longer_each_time_and_as_long_as_the_server_asks_while_there_is_patience(
    patience: float, asked: float | None, expected: list[float]
) -> None:
    pauses = Pauses(patience)
    error = HubUnreachable("away", **({} if asked is None else {"retry_after": asked}))
    assert [pauses.next(error) for _ in expected] == expected


def test_what_a_server_asks_for_may_change() -> None:
    pauses = Pauses(600)
    assert [pauses.next(HubUnreachable("", retry_after=asked)) for asked in (50.0, 1.0, 90.0)] == [50, 10, 90]
