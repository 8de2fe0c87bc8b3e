"""Digests of models that were registered without: computed while the machine has nothing better to do, or when asked for."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path
from threading import Event

from sqlalchemy import Engine, delete, insert, select, update

from registry.background import going_on
from registry.catalog import Catalog
from registry.errors import ModelNotFound
from registry.installs.hashing import Digests, folder_digests, hash_file
from registry.models import Model, computed
from registry.revisions import settle
from registry.rows import MODEL, table_of
from registry.tables import FileRow, now

logger = logging.getLogger(__name__)

SHARE = 0.3  # of one core and of the disk: reading a large library takes three times as long, and nobody notices
_WAIT_SECONDS = 30.0  # between two looks for work when there is none

FILE = table_of(FileRow)


class Stopped(Exception):
    """The wait or the hashing was ended from outside."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """`files` by their path in the model, "" for one that is a file; `whole` are the model's own digests."""

    whole: Digests
    files: dict[str, Digests]


def hash_model(path: Path, check: Callable[[], None] = lambda: None) -> Hashed:
    """Of a file or a folder. `check`: called for each block; what it raises ends it. Raises OSError."""
    if path.is_file():
        one = hash_file(path, check)
        return Hashed(one, {"": one})
    if not path.exists():  # which rglob takes for an empty folder
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), str(path))
    names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file() and not _is_hidden(p, path))
    files = {name: hash_file(path / name, check) for name in names}
    return Hashed(folder_digests(files), files)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


class Digester:
    """Hashes the models of one catalogue that have no digests; `run` goes on until `stop` is set."""

    def __init__(self, engine: Engine, catalog: Catalog, stop: Event) -> None:
        self._engine = engine
        self._catalog = catalog
        self._stop = stop
        self._wake = Event()

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def run(self) -> None:
        while not self._stop.is_set():
            with going_on("hashing"), suppress(Stopped):
                for _ in self.hash_all(self._throttle()):
                    pass
            self._wake.wait(_WAIT_SECONDS)
            self._wake.clear()

    def hash_all(self, check: Callable[[], None] = lambda: None) -> Iterator[Model]:
        """Every model that has no digests, the smallest first; each when it is done. One that cannot be read is left for another day."""
        pending = (MODEL.c.hashed_at.is_(None), MODEL.c.missing_since.is_(None))
        query = select(MODEL.c.id).where(*pending).order_by(MODEL.c.size, MODEL.c.id)
        with self._engine.connect() as connection:
            ids = connection.execute(query).scalars().all()
        for model_id in ids:
            if (model := self.hash(model_id, check)) is not None:
                yield model

    def hash(self, model_id: str, check: Callable[[], None] = lambda: None) -> Model | None:
        """None: it is gone, cannot be read, or was written to meanwhile."""
        try:
            model = self._catalog.get(model_id)
        except ModelNotFound:
            return None  # removed meanwhile
        path = self._catalog.path(model)
        try:
            before = _stamps(path)
            hashed = hash_model(path, check)
            if _stamps(path) != before:
                return None  # it was written to meanwhile; the next scan sees that it has changed
        except OSError as error:
            logger.info("cannot hash %s: %s", path, error.strerror)
            return None
        self.keep(model, hashed)
        return model

    def keep(self, model: Model, hashed: Hashed) -> None:
        """As the model's digests and those of its files."""
        whole = hashed.whole
        rows = [
            {"model_id": model.id, "path": name, "size": d.size, "sha256": d.sha256, "blake3": d.blake3}
            for name, d in hashed.files.items()
        ]
        digests = computed(**whole.by_algorithm())
        with self._catalog.writing() as connection:
            settle(connection, model, whole.blake3)
            self._catalog.add_digests_in(connection, model, digests)
            connection.execute(delete(FILE).where(FILE.c.model_id == model.id))
            if rows:  # a folder may have been emptied
                connection.execute(insert(FILE), rows)
            connection.execute(update(MODEL).where(MODEL.c.id == model.id).values(hashed_at=now(), damaged_at=None))

    def _throttle(self) -> Callable[[], None]:
        """To be called after every block: waits so that the work takes SHARE of the time."""
        began = time.monotonic()

        def wait() -> None:
            nonlocal began
            if self._stop.wait((time.monotonic() - began) * (1 - SHARE) / SHARE):
                raise Stopped
            began = time.monotonic()

        return wait


def _stamps(path: Path) -> list[tuple[int, int]]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [(s.st_size, s.st_mtime_ns) for s in (file.stat() for file in files)]
