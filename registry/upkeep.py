"""Keeping a shelf in order: are the bytes still what they were, what is there twice, and what belongs to nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import StrEnum
from itertools import groupby, takewhile
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, exists, func, not_, or_, select, update

from probes import TAKEN
from registry.catalog import Catalog
from registry.installs.hashing import Digests
from registry.models import PICTURE, Model
from registry.placed import disown, is_stray, stray
from registry.previews import Previews
from registry.rows import DIGEST, FIT, MODEL, in_parts, read, table_of
from registry.scans.digesting import Digester, hash_model
from registry.tables import Install, OverrideRow, StatementRow, now

INSTALL, OVERRIDE, STATEMENT = table_of(Install), table_of(OverrideRow), table_of(StatementRow)


class Condition(StrEnum):
    """`hashed`: there were no digests to hold the bytes against; now there are."""

    WHOLE = "whole"
    HASHED = "hashed"
    DAMAGED = "damaged"
    MISSING = "missing"
    UNREADABLE = "unreadable"


class Verified(NamedTuple):
    """`files`: those of a folder that are damaged."""

    model: Model
    state: Condition
    files: tuple[str, ...] = ()


class Duplicates(NamedTuple):
    """`same`: "file" (equal SHA-256, or BLAKE3 of a folder) or "weights" (equal AutoV3: only the headers differ)."""

    same: str
    digest: str
    models: tuple[Model, ...]


class Waste(NamedTuple):
    """What nothing refers to. `files`, with their bytes: that modelshelf put on its shelf, partial downloads, pictures. `verdicts`: on
    structures that no model has."""

    files: tuple[tuple[Path, int], ...]
    verdicts: int

    @property
    def size(self) -> int:
        return sum(size for _, size in self.files)


class Upkeep:
    def __init__(
        self, engine: Engine, catalog: Catalog, digester: Digester, previews: Previews, downloads: Path
    ) -> None:
        self._previews = previews
        self._downloads = downloads
        self._engine = engine
        self._catalog = catalog
        self._digester = digester

    def verify(self, models: Iterable[Model]) -> Iterator[Verified]:
        """Read every byte of these models again. What is found is recorded: `damaged_at`, `missing_since`."""
        for model in models:
            yield self._verify(model)

    def _verify(self, model: Model) -> Verified:
        path = self._catalog.path(model)
        if not path.exists():
            if model.missing_since is None:
                self._catalog.set(model, missing_since=now())
            return Verified(model, Condition.MISSING)
        try:
            hashed = hash_model(path)
        except OSError:
            return Verified(model, Condition.UNREADABLE)
        if model.blake3 is None:
            self._digester.keep(model, hashed)
            return Verified(model, Condition.HASHED)
        recorded = {file.path: file.blake3 for file in self._catalog.files(model) if file.blake3}
        # Of a folder only what was recorded is held against it: a file that somebody adds does no harm.
        damaged = tuple(name for name, blake3 in recorded.items() if _digest(hashed.files.get(name)) != blake3)
        if not recorded and hashed.whole.blake3 != model.blake3:
            damaged = ("",)
        if bool(damaged) != (model.damaged_at is not None):
            self._catalog.set(model, damaged_at=now() if damaged else None)
        if damaged:
            return Verified(model, Condition.DAMAGED, damaged)
        with self._catalog.writing() as connection:
            values = {"hashed_at": now(), "missing_since": None}
            connection.execute(update(MODEL).where(MODEL.c.id == model.id).values(**values))
        return Verified(model, Condition.WHOLE)

    def duplicates(self) -> list[Duplicates]:
        """Models that are there more than once, the largest first; the same file comes as one group, not also as the same weights."""
        with self._engine.connect() as connection:
            found = [
                Duplicates(same, digest, tuple(models))
                for same, algorithm in (("file", "blake3"), ("weights", "autov3"))
                for digest, models in _sharing(connection, algorithm)
            ]
        files = {frozenset(m.id for m in group.models) for group in found if group.same == "file"}
        kept = [g for g in found if g.same == "file" or frozenset(m.id for m in g.models) not in files]
        return sorted(kept, key=lambda group: (-group.models[0].size, group.digest))

    def unhashed(self) -> int:
        """How many models are there that `duplicates` does not know yet."""
        query = select(func.count()).where(MODEL.c.hashed_at.is_(None), MODEL.c.missing_since.is_(None))
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one()

    def waste(self) -> Waste:
        """Nothing is removed. What modelshelf did not put there itself is the user's, wherever it lies."""
        root = self._catalog.root
        # The files are listed before what needs them, so that what comes meanwhile is in neither list.
        partial = sorted(_files_below(self._downloads))
        pictures = self._previews.files()
        with self._engine.connect() as connection:
            on_shelf = [root / path for path in stray(connection, root)]
            files = [*on_shelf, *self._unneeded(connection, partial), *self._unshown(connection, pictures)]
            verdicts = connection.execute(select(func.count()).select_from(FIT).where(_forsaken())).scalar_one()
        sizes = ((path, _size(path)) for path in sorted(files, key=str))
        return Waste(tuple((path, size) for path, size in sizes if size is not None), verdicts)

    def remove(self, waste: Waste) -> Waste:
        """What `waste` found and still is waste, and the folders that are empty then; returns what was removed.

        Raises OSError where a file cannot be removed.
        """
        removed: list[tuple[Path, int]] = []
        root = self._catalog.root
        shelves = [*(root / kind for kind in TAKEN), self._downloads, self._previews.folder]
        for file, size in waste.files:
            with self._catalog.writing() as connection:  # nobody records a model meanwhile
                if not self._is_waste(connection, file):
                    continue
                file.unlink(missing_ok=True)
                disown(connection, file.relative_to(root).as_posix())
            removed.append((file, size))
            with suppress(OSError):  # not empty: an install may have begun there meanwhile
                for folder in takewhile(lambda folder: folder not in shelves, file.parents):
                    folder.rmdir()
        with self._engine.begin() as connection:
            verdicts = connection.execute(delete(FIT).where(_forsaken())).rowcount
        return Waste(tuple(removed), verdicts)

    def _is_waste(self, connection: Connection, file: Path) -> bool:
        if self._downloads in file.parents:
            return bool(self._unneeded(connection, [file]))
        if self._previews.folder in file.parents:
            return bool(self._unshown(connection, [file]))
        return is_stray(connection, self._catalog.root, file.relative_to(self._catalog.root).as_posix())

    def _unneeded(self, connection: Connection, partial: Iterable[Path]) -> list[Path]:
        """Of files in the downloads' folders, those that no install goes on with."""
        needed = {*connection.execute(select(INSTALL.c.staging)).scalars(), "locks"}
        return [path for path in partial if path.relative_to(self._downloads).parts[0] not in needed]

    @staticmethod
    def _unshown(connection: Connection, pictures: Iterable[Path]) -> list[Path]:
        """Of pictures, those that stand for no model, and half-written ones."""
        shown = {
            *connection.execute(select(OVERRIDE.c.value).where(OVERRIDE.c.name == "preview")).scalars(),
            *connection.execute(select(STATEMENT.c.value).where(STATEMENT.c.name == PICTURE)).scalars(),
        }
        return [path for path in pictures if path.suffix != ".webp" or path.stem not in shown]


def _sharing(connection: Connection, algorithm: str) -> Iterator[tuple[str, list[Model]]]:
    """Models by a computed digest that several of them have."""
    computed = and_(DIGEST.c.algorithm == algorithm, DIGEST.c.by == "")
    values = select(DIGEST.c.value).where(computed).group_by(DIGEST.c.value).having(func.count() > 1)
    query = select(DIGEST.c.value, MODEL.c.id).join(MODEL, MODEL.c.id == DIGEST.c.model_id)
    query = query.where(computed, DIGEST.c.value.in_(values)).order_by(DIGEST.c.value, MODEL.c.name_key)
    pairs = connection.execute(query).all()
    models: dict[str, Model] = {}
    for ids in in_parts([model_id for _, model_id in pairs]):
        rows = connection.execute(select(MODEL).where(MODEL.c.id.in_(ids)))
        models |= {model.id: model for model in read(rows)}
    for value, group in groupby(pairs, key=lambda pair: str(pair[0])):
        yield value, [models[model_id] for _, model_id in group]


def _forsaken() -> ColumnElement[bool]:
    """Verdicts of which one side is no model's structure any more."""
    sides = (FIT.c.checkpoint, FIT.c.adapter)
    return or_(*(not_(exists(select(MODEL.c.id).where(MODEL.c.structure == side).correlate(FIT))) for side in sides))


def _digest(digests: Digests | None) -> str | None:
    return digests.blake3 if digests else None


def _files_below(folder: Path) -> Iterator[Path]:
    """Those in its folders, at any depth. An install may end meanwhile: what has gone is passed over, which `glob` does not do."""
    for place, _, names in os.walk(folder):
        if Path(place) != folder:
            yield from (Path(place, name) for name in names)


def _size(file: Path) -> int | None:
    """In bytes. None: it has gone."""
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return None
