"""A page of a list that is small enough to be made whole for each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def page(rows: Iterable[T], key: Callable[[T], str], limit: int, cursor: str | None) -> tuple[list[T], str | None]:
    """The rows behind `cursor` in the order of their keys, which are unique, and the next page's cursor: a key is a place in the order,
    also when its row is gone."""
    ordered = sorted(rows, key=key)
    start = 0 if cursor is None else bisect_right(ordered, cursor, key=key)
    shown = ordered[start : start + limit]
    return shown, key(shown[-1]) if start + limit < len(ordered) else None
