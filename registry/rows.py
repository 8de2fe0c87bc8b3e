"""Between the values of registry/models.py and the rows of registry/tables.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, Select, Table, bindparam, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import SQLModel

from registry.models import Digest, Model, ModelFile, Provenance, Statement, Trigger, folded, search_text
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

T = TypeVar("T", Digest, Provenance, Statement, Trigger)
Rows = dict[type[SQLModel], list[dict[str, Any]]]


def table_of(row: type[SQLModel]) -> Table:
    return SQLModel.metadata.tables[str(row.__tablename__)]


MODEL, DIGEST, SOURCE, TEXT = table_of(ModelRow), table_of(DigestRow), table_of(SourceRow), table_of(TextRow)
TAG, FIT = table_of(TagRow), table_of(FitRow)
# What a probe or an install says of a model, and a later one says anew. The user's own settings are not among it.
SAID = (DigestRow, TriggerRow, StatementRow, TagRow, ReportRow, FileRow)

USER = "user"
"""Who set a tag, when it was not a probe: such a tag stays whatever a later probe says."""

_COLUMNS = [column.name for column in MODEL.columns if column.name != "name_key"]


def rows_of(model: Model, report: Mapping[str, Any], files: Sequence[ModelFile]) -> Rows:
    """All rows of a model but its own settings; the model's own row comes first."""
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


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Those whose key is not there yet; somebody else may write the same at the same time."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    if rows:
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))


def read(connection: Connection, rows: Sequence[RowMapping]) -> list[Model]:
    """The models of these rows of `model`, in their order: one query for each of the tables, not for each of the models."""
    ids = [row["id"] for row in rows]
    digests = _values(connection, DigestRow, Digest, ids, ("by", "algorithm"))
    sources = _values(connection, SourceRow, Provenance, ids, ("id",))
    triggers = _values(connection, TriggerRow, Trigger, ids, ("position",))
    statements = _values(connection, StatementRow, Statement, ids, ("name", "rank"))
    tags = _grouped(connection, TagRow, ("name",), ids, ("name",))
    overrides = _grouped(connection, OverrideRow, ("name", "value"), ids, ("name",))
    return [
        Model(
            **{name: value for name, value in row.items() if name != "name_key"},
            digests=digests(row["id"]),
            sources=sources(row["id"]),
            trigger_words=triggers(row["id"]),
            statements=statements(row["id"]),
            tags=tuple(dict.fromkeys(tag[1] for tag in tags.get(row["id"], ()))),
            overrides={own[1]: own[2] for own in overrides.get(row["id"], ())},
        )
        for row in rows
    ]


def _grouped(
    connection: Connection, kind: type[SQLModel], names: Sequence[str], ids: Sequence[str], order: Sequence[str]
) -> dict[str, list[Sequence[Any]]]:
    """Rows of (model_id, *names) by model, each model's in order."""
    found: dict[str, list[Sequence[Any]]] = {}
    for row in connection.execute(_of_models(kind, tuple(names), tuple(order)), {"ids": ids}).all():
        found.setdefault(row[0], []).append(row)
    return found


@cache
def _of_models(kind: type[SQLModel], names: Sequence[str], order: Sequence[str]) -> Select[Any]:
    """Made once: to build a statement takes longer than to run it."""
    table = table_of(kind)
    columns = (table.c.model_id, *(table.c[name] for name in names))
    these = table.c.model_id.in_(bindparam("ids", expanding=True))
    return select(*columns).where(these).order_by(table.c.model_id, *(table.c[n] for n in order))


def _values(
    connection: Connection, kind: type[SQLModel], value: type[T], ids: Sequence[str], order: Sequence[str]
) -> Callable[[str], tuple[T, ...]]:
    """Rows as the values whose fields they keep, by model; () for one without any."""
    names = value._fields
    found = _grouped(connection, kind, names, ids, order)
    return lambda model_id: tuple(value._make(row[1:]) for row in found.get(model_id, ()))
