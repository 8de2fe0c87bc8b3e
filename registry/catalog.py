"""Every write of models, and finding one of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Engine,
    String,
    bindparam,
    cast,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from probes import choices_of
from probes.scan import Stamp, stamp_of
from registry.errors import InvalidRequest, ModelNotFound
from registry.models import BEFORE, Digest, Model, ModelFile, Provenance, folded
from registry.naming import Names
from registry.placed import disown, own
from registry.queries import EVERYTHING, Query, find, storable
from registry.rows import DIGEST, MODEL, SOURCE, TAG, USER, in_parts, read, rows_of, table_of, tell, write
from registry.tables import (
    CatalogState,
    FileRow,
    OverrideRow,
    ReportRow,
    SeenRow,
    StatementRow,
    now,
)
from registry.words import words_of


class Held(NamedTuple):
    """A model's file. `managed`: modelshelf's own; to any other the user's programs may write at any time."""

    path: Path
    managed: bool


class Entry(NamedTuple):
    """A model with what only few want to read: the probe's report and the single files."""

    model: Model
    report: Mapping[str, Any]
    files: Sequence[ModelFile] = ()


class Page(NamedTuple):
    """`cursor` asks for the next page; None: this is the last."""

    models: list[Model]
    cursor: str | None


_STATE = table_of(CatalogState)
# Made once: to build a statement takes longer than to run it.
_VERSION = select(_STATE.c.epoch, _STATE.c.version)
_BY_ID_OR_NAME = select(MODEL).where(
    or_(MODEL.c.id.in_(bindparam("ids", expanding=True)), MODEL.c.name_key.in_(bindparam("keys", expanding=True)))
)


class Catalog:
    """The models of one database. `root` is where relative paths of models start."""

    def __init__(self, engine: Engine, root: Path) -> None:
        self._engine = engine
        self.root = root

    # -- finding
    def page(self, query: Query) -> Page:
        """Raises InvalidRequest."""
        with self._engine.connect() as connection:
            found = find(connection, query)
            return Page(read(found.rows), found.cursor)

    def every(self, query: Query = EVERYTHING) -> Iterator[Model]:
        """All that pass, a page at a time; `query.limit` is the page's length."""
        while True:
            page = self.page(query)
            yield from page.models
            if page.cursor is None:
                return
            query = replace(query, cursor=page.cursor)

    def list(self, query: Query = EVERYTHING) -> Sequence[Model]:
        """All that pass, at once."""
        return [*self.every(query)]

    def counts(self) -> dict[tuple[str, str], int]:
        """(family, kind) -> number of models."""
        query = select(MODEL.c.family, MODEL.c.kind, func.count()).group_by(MODEL.c.family, MODEL.c.kind)
        with self._engine.connect() as connection:
            return {(family, kind): number for family, kind, number in connection.execute(query)}

    def get(self, reference: str) -> Model:
        """By id, else by name, else by the beginning of an id (4 digits at least). Raises ModelNotFound, InvalidRequest."""
        if known := self.known([reference]):
            return known[reference]
        found: Sequence[Model] = ()
        if storable(reference) and len(reference) >= 4:
            begun = select(MODEL).where(MODEL.c.id.startswith(reference, autoescape=True))
            with self._engine.connect() as connection:
                found = read(connection.execute(begun))
        if len(found) > 1:
            ids = [model.id for model in found]
            raise InvalidRequest(f"“{reference}” begins the ids of {len(ids)} models: {', '.join(ids)}.", ids=ids)
        if not found:
            raise ModelNotFound(
                f"There is no model “{reference}”. `modelshelf list` shows what is installed.", model=reference
            )
        return found[0]

    def known(self, references: Iterable[str]) -> dict[str, Model]:
        """Those that are an id, else a name, with their models; read in one query however many they are."""
        asked = [reference for reference in references if storable(reference)]
        keys = [folded(reference) for reference in asked]
        with self._engine.connect() as connection:
            found = read(connection.execute(_BY_ID_OR_NAME, {"ids": asked, "keys": keys}))
        by_id = {model.id: model for model in found}
        by_key = {folded(model.name): model for model in found}
        either = ((r, by_id.get(r) or by_key.get(key)) for r, key in zip(asked, keys, strict=True))
        return {reference: model for reference, model in either if model}

    def called(self, name: str) -> Model:
        """By what `get` takes, else by the name of its file or the one that it was trained under. Raises ModelNotFound, InvalidRequest."""
        try:
            return self.get(name)
        except ModelNotFound:
            if not storable(name):
                raise
            statement = table_of(StatementRow)
            stem = MODEL.c.path.contains(f"/{name}.", autoescape=True)
            trained = (statement.c.name == "output_name", cast(statement.c.value, String) == json.dumps(name))
            named = MODEL.c.id.in_(select(statement.c.model_id).where(*trained))
            query = select(MODEL).where(or_(stem, named)).order_by(MODEL.c.name_key).limit(2)
            with self._engine.connect() as connection:
                found = read(connection.execute(query))
        if len(found) > 1:
            names = [model.name for model in found]
            raise InvalidRequest(f"“{name}” is the file of several models: {', '.join(names)}.", names=names)
        if not found:
            return self.get(name)
        return found[0]

    def has_name(self, name: str) -> bool:
        """Whether a model has this name, whatever the case."""
        with self._engine.connect() as connection:
            return connection.execute(select(MODEL.c.id).where(MODEL.c.name_key == folded(name))).first() is not None

    def find(self, *, source: str | None = None, **digests: str | None) -> Model | None:
        """The first of `matching` that is whole, or else the first."""
        found = self.matching(source=source, **digests)
        return next(filter(self.is_whole, found), next(iter(found), None))

    def matching(self, *, source: str | None = None, **digests: str | None) -> Sequence[Model]:
        """The models that came from this pinned source, then those with one of these digests, computed (`sha256=...`, `autov3=...`). The
        source of one that was written to since answers for nothing until it is hashed."""
        in_doubt = exists().where(DIGEST.c.model_id == SOURCE.c.model_id, DIGEST.c.by == BEFORE)
        queries = [select(SOURCE.c.model_id).where(SOURCE.c.url == source, ~in_doubt)] if source else []
        queries += [
            select(DIGEST.c.model_id).where(DIGEST.c.value == value, DIGEST.c.algorithm == algorithm, DIGEST.c.by == "")
            for algorithm, value in digests.items()
            if value
        ]
        with self._engine.connect() as connection:
            rows = [
                row
                for query in queries
                for row in connection.execute(select(MODEL).where(MODEL.c.id.in_(query)).order_by(MODEL.c.name_key))
            ]
            return read(dict.fromkeys(rows))

    def blake3_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Of these models, those that are hashed, by id."""
        hashed = (DIGEST.c.algorithm == "blake3", DIGEST.c.by == "")
        query = select(DIGEST.c.model_id, DIGEST.c.value).where(*hashed)
        with self._engine.connect() as connection:
            rows = [r for some in in_parts(ids) for r in connection.execute(query.where(DIGEST.c.model_id.in_(some)))]
        return {row.model_id: row.value for row in rows}

    def came_from(self, repo_id: str, ref: str | None) -> Sequence[tuple[str, str]]:
        """Pinned source and model's id of what came from a repository by this branch or tag, the newest first."""
        here = (SOURCE.c.repo_id == repo_id, SOURCE.c.ref.is_not_distinct_from(ref))
        query = select(SOURCE.c.url, SOURCE.c.model_id).where(*here).order_by(SOURCE.c.id.desc())
        with self._engine.connect() as connection:
            return [(url, model_id) for url, model_id in connection.execute(query)]

    def report(self, model: Model) -> dict[str, Any]:
        """The last probe's answer, with `choices` where it has candidates and was given before there were any."""
        report = table_of(ReportRow)
        with self._engine.connect() as connection:
            found: dict[str, Any] = connection.execute(
                select(report.c.data).where(report.c.model_id == model.id)
            ).scalar_one()
        choices = [choice._asdict() for choice in choices_of(found.get("candidates", ()))]
        return {"choices": choices, **found} if choices else found

    def files(self, model: Model) -> Sequence[ModelFile]:
        """By path."""
        file = table_of(FileRow)
        query = select(file).where(file.c.model_id == model.id).order_by(file.c.path)
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [ModelFile(**{name: row[name] for name in ModelFile.__slots__}) for row in rows]

    def holding(self, sha256: str) -> Held | None:
        """A file on disk whose bytes had this digest when they were hashed: a whole model or one of a folder's, best the shelf's own."""
        file = table_of(FileRow)
        query = (
            select(MODEL.c.path, file.c.path, MODEL.c.managed)
            .join(file, file.c.model_id == MODEL.c.id)
            .where(file.c.sha256 == sha256)
            .order_by(MODEL.c.managed.desc())
        )
        with self._engine.connect() as connection:
            held = (Held(self.root / model / inside, managed) for model, inside, managed in connection.execute(query))
            return next((one for one in held if one.path.is_file()), None)

    def path(self, model: Model) -> Path:
        """Absolute path of a model's file or folder."""
        return self.root / model.path

    def relative(self, real: str) -> str:
        """A path as `model.path` has it: from the root when inside it, and absolute anywhere else. `real`: without links."""
        root = os.path.realpath(self.root)
        return real[len(root) + 1 :] if real.startswith(root + "/") else real

    def at(self, path: Path) -> Model | None:
        """The model that lies there, and whose bytes are those on record (is_whole)."""
        here = select(MODEL).where(MODEL.c.path == self.relative(os.path.realpath(path)))
        with self._engine.connect() as connection:
            found = read(connection.execute(here).all())
        return next((model for model in found if self.is_whole(model)), None)

    def is_whole(self, model: Model) -> bool:
        """Whether its file is there, as long as it was, and not known to be damaged; one that other programs may write to, as a scan has
        seen it. Its bytes are not read."""
        path = self.path(model)
        is_there = model.damaged_at is None and path.exists() and (path.is_dir() or path.stat().st_size == model.size)
        return is_there and (model.managed or self.is_as_seen(model))

    def is_as_seen(self, model: Model) -> bool:
        """Whether its file is the one that a scan last looked at, by its stamp. One that is gone, whoever opens it tells."""
        try:
            stamp = stamp_of(os.path.realpath(self.path(model)))
        except OSError:
            return True
        seen = table_of(SeenRow)
        query = select(seen.c.size, seen.c.mtime_ns, seen.c.inode).where(seen.c.model_id == model.id)
        with self._engine.connect() as connection:
            return stamp in [Stamp(*row) for row in connection.execute(query)]

    def version(self) -> str:
        """Changes whenever an answer of this catalogue may have changed, and is no other database's: for ETag."""
        with self._engine.connect() as connection:
            epoch, version = connection.execute(_VERSION).one()
        return f"{epoch}-{version}"

    # -- writing
    def add(self, model: Model, report: Mapping[str, Any], files: Sequence[ModelFile] = ()) -> Model:
        self.add_many([Entry(model, report, files)])
        return model

    def add_many(self, entries: Iterable[Entry]) -> None:
        """All or none."""
        with self.writing() as connection:
            self.add_in(connection, entries)

    @staticmethod
    def add_in(connection: Connection, entries: Iterable[Entry]) -> None:
        """`add_many` within somebody's transaction."""
        entries = list(entries)
        write(connection, [rows_of(*entry) for entry in entries])
        tell(connection, [entry.model.id for entry in entries])
        own(connection, (entry.model.id for entry in entries if entry.model.managed))

    def add_source(self, model: Model, source: Provenance) -> Model:
        """It can be had from there, too; known already, only its etag and ref are brought up to date."""
        with self.writing() as connection:
            known = update(SOURCE).where(SOURCE.c.model_id == model.id, SOURCE.c.url == source.url)
            if not connection.execute(known.values(etag=source.etag, ref=source.ref)).rowcount:
                connection.execute(insert(SOURCE).values(model_id=model.id, added_at=now(), **source._asdict()))
            tell(connection, [model.id])
        return self.get(model.id)

    def add_digests(self, model: Model, digests: Iterable[Digest]) -> None:
        """Claims, or what the bytes gave; a newer one takes an older one's place. Computed ones set `hashed_at`."""
        with self.writing() as connection:
            self.add_digests_in(connection, model, digests)

    @staticmethod
    def add_digests_in(connection: Connection, model: Model, digests: Iterable[Digest]) -> None:
        """`add_digests` within somebody's transaction."""
        for digest in digests:
            old = (DIGEST.c.model_id == model.id, DIGEST.c.algorithm == digest.algorithm, DIGEST.c.by == digest.by)
            connection.execute(delete(DIGEST).where(*old))
            connection.execute(insert(DIGEST).values(model_id=model.id, **digest._asdict()))
            if not digest.by:
                connection.execute(update(MODEL).where(MODEL.c.id == model.id).values(hashed_at=now()))
        tell(connection, [model.id])

    def override(
        self,
        reference: str,
        settings: Mapping[str, Any],
        *,
        name: str | None = None,
        also: Callable[[Connection], None] = lambda _: None,
    ) -> Model:
        """Change the user's own settings for a model, and its name; a value of None takes a setting back. `also`: in the same transaction.

        The file keeps its name. Raises what `get` raises, and InvalidRequest for a name that another model has.
        """
        model = self.get(reference)
        with self.writing() as connection:
            if name is not None and name != model.name:
                self._rename(connection, model, name)
            self._override(connection, model, settings)
            also(connection)
            tell(connection, [model.id])
        return self.get(model.id)

    @staticmethod
    def _override(connection: Connection, model: Model, settings: Mapping[str, Any]) -> None:
        own = table_of(OverrideRow)
        connection.execute(delete(own).where(own.c.model_id == model.id, own.c.name.in_(settings)))
        rows = [{"model_id": model.id, "name": k, "value": v} for k, v in settings.items() if v is not None]
        if rows:
            connection.execute(insert(own), rows)
        if "tags" in settings:
            connection.execute(delete(TAG).where(TAG.c.model_id == model.id, TAG.c.by == USER))
            tags = dict.fromkeys(map(folded, settings["tags"] or ()))
            if tags:
                connection.execute(insert(TAG), [{"model_id": model.id, "name": tag, "by": USER} for tag in tags])

    @staticmethod
    def _rename(connection: Connection, model: Model, name: str) -> None:
        key = folded(name)
        others = select(MODEL.c.id).where(MODEL.c.name_key == key, MODEL.c.id != model.id)
        if connection.execute(others).first() is not None:
            raise InvalidRequest(f"Another model is named “{name}”.", field="name")
        connection.execute(update(MODEL).where(MODEL.c.id == model.id).values(name=name, name_key=key))

    def succeed(self, old: Model, new: Model, mark: str) -> None:
        """`new` gets the name of `old`, which has `@mark` behind it from now on, and its user's settings unless it has some. A mark that is
        there already is no part of the name."""
        name = old.name.removesuffix(f"@{mark}")
        with self.writing() as connection:
            for model in (old, new):
                self._rename(connection, model, model.id)
            names = Names(connection)
            for model, wanted in ((old, f"{name}@{mark}"), (new, name)):
                self._rename(connection, model, names.free(wanted))
            if old.overrides and words_of(new.overrides) == new.overrides:
                self._override(connection, new, {**old.overrides, **new.overrides})
            tell(connection, [old.id, new.id])

    def set(self, model: Model, **columns: Any) -> None:
        """Columns of the model's own row, such as `path` or `missing_since`."""
        with self.writing() as connection:
            connection.execute(update(MODEL).where(MODEL.c.id == model.id).values(**columns))

    def place(self, model: Model, **columns: Any) -> None:
        """It lies elsewhere (`path`, `managed`, ...): what a scan has seen of it where it was is forgotten."""
        seen = table_of(SeenRow)
        with self.writing() as connection:
            connection.execute(delete(seen).where(seen.c.model_id == model.id))
            connection.execute(update(MODEL).where(MODEL.c.id == model.id).values(**columns))
            own(connection, [model.id])

    def remove(self, model: Model) -> None:
        """Forget a model; its file is not touched."""
        with self.writing() as connection:
            connection.execute(delete(MODEL).where(MODEL.c.id == model.id))

    def disown(self, path: str) -> None:
        """What modelshelf had at this `model.path` is off the disk."""
        with self.writing() as connection:
            disown(connection, path)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that changes what the catalogue answers: all of it or, when it raises, nothing.

        The counter goes first: so the transaction holds SQLite's write lock from its first statement on, and waits for it instead of
        failing half-way because somebody else wrote since its first read.
        """
        with self._engine.begin() as connection:
            connection.execute(update(_STATE).values(version=_STATE.c.version + 1))
            yield connection
