"""Models whose file is not where it was: is one of them the file that was found now?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from sqlalchemy import Engine

from probes.scan import Stamp, stamp_of
from registry.catalog import Catalog
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
        digest; else None. `here`: the model that is on record at its path, which it may be after all."""
        for seen in seen_before:
            if seen.model_id and seen.model_id not in self._found and not _stands(seen.path, seen.stamp):
                return self._take(seen.model_id)
        # Of other shapes it cannot be the same; that spares most hashing.
        rows = [known for known in self._gone.get(stamp.size, ()) if known.id not in self._found]
        candidates = [known for known in rows if known.structure in (None, structure)]
        digests = {known: self._catalog.get(known.id).blake3 for known in candidates}
        if not any(digest for known, digest in digests.items() if here is None or known.id != here.id):
            return None
        blake3 = self._hash(path)
        alike = [known for known, digest in digests.items() if digest and digest == blake3]
        if here is not None and here.id in [known.id for known in alike]:
            return self._take(here.id)
        return next((self._take(k.id) for k in alike if self._hash(self._catalog.root / k.path) != blake3), None)

    @cached_property
    def _gone(self) -> Mapping[int, Sequence[Known]]:
        """Models that are not where they were, or that something else may be there instead of, by size. Asked for once a scan, when the
        first new file is met: a library may hold thousands of LoRAs of one size."""
        found: dict[int, list[Known]] = {}
        with self._engine.connect() as connection:
            for known in every_model(connection):
                path = self._catalog.root / known.path
                if not (_stands(path, known.stamp) if known.stamp else os.path.lexists(path)):
                    found.setdefault(known.size, []).append(known)
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
