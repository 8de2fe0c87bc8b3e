"""Names for models, of which no two have the same."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, count

from sqlalchemy import Connection, select

from registry.models import folded
from registry.rows import MODEL


class Names:
    """Those that no model has, as long as the transaction lasts: it must be one of Catalog.writing, which lets nobody else write."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._given: set[str] = set()

    def free(self, wanted: str, fits: Callable[[str], bool] = lambda _: True) -> str:
        """`wanted`, or with the first number that makes it free, and for which `fits` is true; it is not given again."""
        names = chain([wanted], (f"{wanted}-{number}" for number in count(2)))
        name = next(name for name in names if not self._is_taken(folded(name)) and fits(name))
        self._given.add(folded(name))
        return name

    def _is_taken(self, key: str) -> bool:
        query = select(MODEL.c.id).where(MODEL.c.name_key == key)
        return key in self._given or self._connection.execute(query).first() is not None
