"""Digests of models that were registered without: computed while the machine has nothing better to do, or when asked for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from sqlalchemy import Engine, delete, insert, select, update

from registry.catalog import Catalog
from registry.installs.hashing import BLOCK, Digests, Hasher, folder_digests
from registry.models import Model, computed
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


def hash_model(path: Path, pause: Callable[[float], None] = lambda _: None) -> Hashed:
    """Of a file or a folder. `pause(seconds)` is called after every block with the time that it took.

    Raises OSError.
    """
    if path.is_file():
        one = _hash_file(path, pause)
        return Hashed(one, {"": one})
    names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file() and not _is_hidden(p, path))
    files = {name: _hash_file(path / name, pause) for name in names}
    return Hashed(folder_digests(files), files)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _hash_file(path: Path, pause: Callable[[float], None]) -> Digests:
    hasher = Hasher()
    buffer = memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as file:
        started = time.monotonic()
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            pause(time.monotonic() - started)
            started = time.monotonic()
    return hasher.digests()


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
            try:
                for _ in self.hash_all(self._throttle):
                    pass
            except Stopped:
                return
            self._wake.wait(_WAIT_SECONDS)
            self._wake.clear()

    def hash_all(self, pause: Callable[[float], None] = lambda _: None) -> Iterator[Model]:
        """Every model that has no digests, the smallest first; each when it is done. One that cannot be read is left for another day."""
        pending = (MODEL.c.hashed_at.is_(None), MODEL.c.missing_since.is_(None))
        query = select(MODEL.c.id).where(*pending).order_by(MODEL.c.size, MODEL.c.id)
        with self._engine.connect() as connection:
            ids = connection.execute(query).scalars().all()
        for model_id in ids:
            if (model := self._hash(model_id, pause)) is not None:
                yield model

    def _hash(self, model_id: str, pause: Callable[[float], None]) -> Model | None:
        model = self._catalog.get(model_id)
        path = self._catalog.path(model)
        try:
            before = _stamps(path)
            hashed = hash_model(path, pause)
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
        self._catalog.add_digests(model, computed(blake3=whole.blake3, sha256=whole.sha256, autov3=whole.autov3))
        rows = [
            {"model_id": model.id, "path": name, "size": d.size, "sha256": d.sha256, "blake3": d.blake3}
            for name, d in hashed.files.items()
        ]
        with self._catalog.writing() as connection:
            connection.execute(delete(FILE).where(FILE.c.model_id == model.id))
            connection.execute(insert(FILE), rows)
            connection.execute(update(MODEL).where(MODEL.c.id == model.id).values(hashed_at=now(), damaged_at=None))

    def _throttle(self, seconds: float) -> None:
        if self._stop.wait(seconds * (1 - SHARE) / SHARE):
            raise Stopped


def _stamps(path: Path) -> list[tuple[int, int]]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [(s.st_size, s.st_mtime_ns) for s in (file.stat() for file in files)]
