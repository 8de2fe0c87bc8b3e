"""Between the values of registry/models.py and the rows of registry/tables.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from msgspec.json import Decoder
from sqlalchemy import Connection, Row, Table, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import SQLModel

from probes.json_text import dumps
from registry.models import BEFORE, Digest, Model, ModelFile, Provenance, Statement, Trigger, folded, search_text
from registry.tables import (
    DigestRow,
    FileRow,
    FitRow,
    ModelRow,
    OverrideRow,
    ReportRow,
    SourceRow,
    StatementRow,
    TagRow,
    TextRow,
    TriggerRow,
    now,
)

V = TypeVar("V")
Rows = dict[type[SQLModel], list[dict[str, Any]]]


def table_of(row: type[SQLModel]) -> Table:
    return SQLModel.metadata.tables[str(row.__tablename__)]


MODEL, DIGEST, SOURCE, TEXT = table_of(ModelRow), table_of(DigestRow), table_of(SourceRow), table_of(TextRow)
TAG, FIT = table_of(TagRow), table_of(FitRow)
# What a probe or an install says of a model, and a later one says anew. The user's own settings are not among it.
SAID = (DigestRow, TriggerRow, StatementRow, TagRow, ReportRow, FileRow)

USER = "user"
"""Who set a tag, when it was not a probe: such a tag stays whatever a later probe says."""

_COLUMNS = [column.name for column in MODEL.columns if column.name not in ("name_key", "said")]


def rows_of(model: Model, report: Mapping[str, Any], files: Sequence[ModelFile]) -> Rows:
    """All rows of a model; its own comes first."""
    of = {"model_id": model.id}
    rank: dict[str, int] = defaultdict(int)
    statements = []
    for said in model.statements:
        statements.append(of | said._asdict() | {"rank": rank[said.name]})
        rank[said.name] += 1
    rows: Rows = {
        ModelRow: [{name: getattr(model, name) for name in _COLUMNS} | {"name_key": folded(model.name)}],
        FileRow: [of | asdict(file) for file in files],
        DigestRow: [of | digest._asdict() for digest in dict.fromkeys(model.digests)],
        SourceRow: [of | source._asdict() | {"added_at": now()} for source in model.sources],
        TriggerRow: [of | word._asdict() | {"position": n} for n, word in enumerate(model.trigger_words)],
        StatementRow: statements,
        TagRow: [of | {"name": tag, "by": ""} for tag in dict.fromkeys(map(folded, model.tags))],
        ReportRow: [of | {"data": dict(report), "probed_at": now()}],
        OverrideRow: [of | {"name": name, "value": value} for name, value in model.overrides.items()],
        TextRow: [of | {"text": search_text(model)}],
    }
    return {
        kind: [{name: _storable(value) for name, value in row.items()} for row in values]
        for kind, values in rows.items()
    }


def _storable(value: Any) -> Any:
    """Text as every database takes it: strangers' JSON may hold NUL and halves of surrogate pairs."""
    return value.encode("utf-8", "replace").decode().replace("\0", "") if isinstance(value, str) else value


def write(connection: Connection, many: Iterable[Rows]) -> None:
    """One INSERT a table for all of them, in the order in which foreign keys want it."""
    together: Rows = defaultdict(list)
    for rows in many:
        for kind, values in rows.items():
            together[kind] += values
    for kind, values in together.items():
        if values:
            connection.execute(insert(table_of(kind)), values)


_AT_ONCE = 500  # parameters of one IN: SQLite's default limit of 32766 is far, its parser is quick with hundreds


def in_parts(values: Sequence[V]) -> Iterator[Sequence[V]]:
    """For an IN each, however many there are."""
    return (values[at : at + _AT_ONCE] for at in range(0, len(values), _AT_ONCE))


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Those whose key is not there yet; somebody else may write the same at the same time."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    if rows:
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))


class _Said(NamedTuple):
    """What is said of a model, by the names that it has there; as JSON it is the column `said`. Nothing yet in a row of an earlier release,
    whose service may still run beside a database that a later one has migrated: it must not keep all others from being listed."""

    digests: tuple[Digest, ...] = ()
    sources: tuple[Provenance, ...] = ()
    trigger_words: tuple[Trigger, ...] = ()
    statements: tuple[Statement, ...] = ()
    tags: tuple[str, ...] = ()
    overrides: dict[str, Any] | None = None


_SAID = Decoder(_Said)
_NAMES = [column.name for column in MODEL.columns]


def read(rows: Iterable[Row[Any]]) -> list[Model]:
    """The models of these rows of `model`, in their order."""
    models = []
    for row in rows:
        facts = dict(zip(_NAMES, row, strict=True))
        del facts["name_key"]
        digests, sources, triggers, statements, tags, overrides = _SAID.decode(facts.pop("said"))
        models.append(
            Model(
                **facts,
                digests=digests,
                sources=sources,
                trigger_words=triggers,
                statements=statements,
                tags=tags,
                overrides=overrides or {},
            )
        )
    return models


Values = list[tuple[Any, ...]]


class _Part(NamedTuple):
    """A table of what is said of models: the columns of a value, those that a model's values are ordered by, and what becomes of them."""

    table: Table
    value: tuple[str, ...]
    order: tuple[str, ...]
    gathered: Callable[[Values], Any] = list


_PARTS = (  # in the order of _Said
    _Part(
        DIGEST,
        Digest._fields,
        ("by", "algorithm"),
        lambda rows: [row for row in map(Digest._make, rows) if row.by != BEFORE],
    ),
    _Part(SOURCE, Provenance._fields, ("id",)),
    _Part(table_of(TriggerRow), Trigger._fields, ("position",)),
    _Part(table_of(StatementRow), Statement._fields, ("rank", "name")),
    _Part(TAG, ("name",), ("name",), lambda rows: [name for (name,) in dict.fromkeys(rows)]),
    _Part(table_of(OverrideRow), ("name", "value"), ("name",), dict),
)


def tell(connection: Connection, ids: Sequence[str]) -> None:
    """Due in every transaction that changes what is said of these models, or their names: what stands of it in their own rows, and what a
    search looks through, is made anew. Within Catalog.writing, so that nobody else changes it meanwhile."""
    for some in in_parts(ids):
        told = [{"of": model_id, "told": dumps(said).decode()} for model_id, said in _said(connection, some).items()]
        connection.execute(update(MODEL).where(MODEL.c.id == bindparam("of")).values(said=bindparam("told")), told)
        models = read(connection.execute(select(MODEL).where(MODEL.c.id.in_(some))))
        # Only where it is another: its index would be written to for nothing.
        changed = update(TEXT).where(TEXT.c.model_id == bindparam("of"), TEXT.c.text != bindparam("told"))
        texts = [{"of": model.id, "told": search_text(model)} for model in models]
        connection.execute(changed.values(text=bindparam("told")), texts)


def _said(connection: Connection, ids: Sequence[str]) -> dict[str, list[Any]]:
    """By model, in the order of _Said."""
    found: dict[str, list[Any]] = {model_id: [] for model_id in ids}
    for table, value, order, gathered in _PARTS:
        columns = [table.c[name] for name in ("model_id", *order, *value)]
        rows = connection.execute(select(*columns).where(table.c.model_id.in_(ids))).all()
        values: dict[str, Values] = {model_id: [] for model_id in ids}
        for row in sorted(rows, key=itemgetter(*range(1 + len(order)))):  # by code point, which is not every database's
            values[row[0]].append(tuple(row[1 + len(order) :]))
        for model_id, said in found.items():
            said.append(gathered(values[model_id]))
    return found
