"""Models whose file is not where it was: is one of them the file that was found now?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from sqlalchemy import Engine

from probes.scan import Stamp, stamp_of
from registry.catalog import Catalog
from registry.fits import is_readable
from registry.scans.digesting import hash_model
from registry.scans.record import Known, Seen, every_model


class Lost:
    """Of one scan; each is found once."""

    def __init__(self, engine: Engine, catalog: Catalog, check: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._catalog = catalog
        self._check = check
        self._found: set[str] = set()

    def match(
        self, path: str, stamp: Stamp, structure: str | None, seen_before: Sequence[Seen], here: Known | None
    ) -> str | None:
        """The id of the model that a new or changed file is. By size, time and inode (moved within a file system; `seen_before`), else by
        digest; else None. `here`: the model that is on record at its path, which it may be after all: then only those count whose own
        place is empty, or in a library that was touched each file would be read whole for all the others."""
        for seen in seen_before:
            if seen.model_id and seen.model_id not in self._found and not _stands(seen.path, seen.stamp):
                return self._take(seen.model_id)
        # Of other shapes it cannot be the same; that spares most hashing.
        candidates = [
            known
            for known, is_empty in self._gone.get(stamp.size, ())
            if known.id not in self._found
            and (known.structure == structure or not is_readable(known.structure))
            and (is_empty or here is None)
        ]
        digests = self._catalog.blake3_of([known.id for known in candidates])
        if not digests:
            return None
        blake3 = self._hash(path)
        if here is not None and here.id not in self._found and blake3 in self._catalog.blake3_of([here.id]).values():
            return self._take(here.id)
        alike = [known for known in candidates if blake3 and digests.get(known.id) == blake3]
        return next((self._take(k.id) for k in alike if self._hash(self._catalog.root / k.path) != blake3), None)

    @cached_property
    def _gone(self) -> Mapping[int, Sequence[tuple[Known, bool]]]:
        """Models that are not where they were, or that something else may be there instead of, by size, and whether their place is empty.
        Asked for once a scan, when the first new file is met: a library may hold thousands of LoRAs of one size."""
        found: dict[int, list[tuple[Known, bool]]] = {}
        with self._engine.connect() as connection:
            for known in every_model(connection):
                path = self._catalog.root / known.path
                if not (_stands(path, known.stamp) if known.stamp else os.path.lexists(path)):
                    found.setdefault(known.size, []).append((known, not os.path.lexists(path)))
        return found

    def _hash(self, path: str | Path) -> str | None:
        """None: it is not there, or cannot be read; then the next scan looks again."""
        try:
            return hash_model(Path(path), self._check).whole.blake3
        except OSError:
            return None

    def _take(self, model_id: str) -> str:
        self._found.add(model_id)
        return model_id


def _stands(path: str | Path, stamp: Stamp) -> bool:
    """Whether the file with this stamp is still there."""
    try:
        return stamp_of(os.fspath(path)) == stamp
    except OSError:
        return False
