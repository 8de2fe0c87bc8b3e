"""Keeping a shelf in order: are the bytes still what they were, what is there twice, and what belongs to nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, exists, func, not_, or_, select, update

from probes import TAKEN
from registry.catalog import Catalog
from registry.installs.hashing import Digests
from registry.models import PICTURE, Model
from registry.previews import Previews
from registry.rows import DIGEST, FIT, MODEL, read, table_of
from registry.scans.digesting import Digester, hash_model
from registry.tables import Install, OverrideRow, StatementRow, now

INSTALL, OVERRIDE, STATEMENT = table_of(Install), table_of(OverrideRow), table_of(StatementRow)


class State(StrEnum):
    """`hashed`: there were no digests to hold the bytes against; now there are."""

    WHOLE = "whole"
    HASHED = "hashed"
    DAMAGED = "damaged"
    MISSING = "missing"
    UNREADABLE = "unreadable"


class Verified(NamedTuple):
    """`files`: those of a folder that are damaged."""

    model: Model
    state: State
    files: tuple[str, ...] = ()


class Duplicates(NamedTuple):
    """`same`: "file" (equal SHA-256, or BLAKE3 of a folder) or "weights" (equal AutoV3: only the headers differ)."""

    same: str
    digest: str
    models: tuple[Model, ...]


class Waste(NamedTuple):
    """What nothing refers to. `files`: in modelshelf's own folders, with their bytes: models, partial downloads, pictures. `verdicts`: on
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
            return Verified(model, State.MISSING)
        try:
            hashed = hash_model(path)
        except OSError:
            return Verified(model, State.UNREADABLE)
        if model.blake3 is None:
            self._digester.keep(model, hashed)
            return Verified(model, State.HASHED)
        recorded = {file.path: file.blake3 for file in self._catalog.files(model) if file.blake3}
        # Of a folder only what was recorded is held against it: a file that somebody adds does no harm.
        damaged = tuple(name for name, blake3 in recorded.items() if _digest(hashed.files.get(name)) != blake3)
        if not recorded and hashed.whole.blake3 != model.blake3:
            damaged = ("",)
        if bool(damaged) != (model.damaged_at is not None):
            self._catalog.set(model, damaged_at=now() if damaged else None)
        if damaged:
            return Verified(model, State.DAMAGED, damaged)
        with self._catalog.writing() as connection:
            values = {"hashed_at": now(), "missing_since": None}
            connection.execute(update(MODEL).where(MODEL.c.id == model.id).values(**values))
        return Verified(model, State.WHOLE)

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

    def waste(self) -> Waste:
        """Nothing is removed. Only modelshelf's own folders are looked through; never a scanned one."""
        root = self._catalog.root
        with self._engine.connect() as connection:
            known = {root / path for path in connection.execute(select(MODEL.c.path)).scalars()}
            needed = set(connection.execute(select(INSTALL.c.staging)).scalars())
            shown = {
                *connection.execute(select(OVERRIDE.c.value).where(OVERRIDE.c.name == "preview")).scalars(),
                *connection.execute(select(STATEMENT.c.value).where(STATEMENT.c.name == PICTURE)).scalars(),
            }
            verdicts = connection.execute(select(func.count()).select_from(FIT).where(_forsaken())).scalar_one()
        stray = [
            path for kind in sorted(TAKEN) for path in _files(root / kind) if known.isdisjoint((path, *path.parents))
        ]
        partial = [
            path
            for folder in sorted(self._downloads.glob("*/"))
            if folder.name not in needed | {"locks"}
            for path in _files(folder)
        ]
        stray += [*partial, *self._previews.unused(shown)]
        return Waste(tuple((path, path.stat().st_size) for path in stray), verdicts)

    def remove(self, waste: Waste) -> None:
        """What `waste` found, and the folders that are empty then. Raises OSError where a file cannot be removed."""
        shelves = [*(self._catalog.root / kind for kind in TAKEN), self._downloads, self._catalog.root]
        for path, _ in waste.files:
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder in shelves or any(folder.iterdir()):
                    break
                folder.rmdir()
        with self._engine.begin() as connection:
            connection.execute(delete(FIT).where(_forsaken()))


def _sharing(connection: Connection, algorithm: str) -> Iterator[tuple[str, list[Model]]]:
    """Models by a computed digest that several of them have."""
    computed = and_(DIGEST.c.algorithm == algorithm, DIGEST.c.by == "")
    values = select(DIGEST.c.value).where(computed).group_by(DIGEST.c.value).having(func.count() > 1)
    for value in connection.execute(values).scalars().all():
        ids = select(DIGEST.c.model_id).where(computed, DIGEST.c.value == value)
        query = select(MODEL).where(MODEL.c.id.in_(ids)).order_by(MODEL.c.name_key)
        yield value, read(connection, connection.execute(query).mappings().all())


def _forsaken() -> ColumnElement[bool]:
    """Verdicts of which one side is no model's structure any more."""
    sides = (FIT.c.checkpoint, FIT.c.adapter)
    return or_(*(not_(exists(select(MODEL.c.id).where(MODEL.c.structure == side).correlate(FIT))) for side in sides))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _digest(digests: Digests | None) -> str | None:
    return digests.blake3 if digests else None
