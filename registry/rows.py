"""Between the values of registry/models.py and the rows of registry/tables.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    JSON,
    ColumnElement,
    CompoundSelect,
    Connection,
    Float,
    Row,
    Select,
    String,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    func,
    insert,
    literal_column,
    null,
    select,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import SQLModel

from probes.json_text import dumps, loads
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


_AT_ONCE = 500  # parameters of one IN: SQLite's default limit of 32766 is far, its parser is quick with hundreds


def in_parts(values: Sequence[V]) -> Iterator[Sequence[V]]:
    """For an IN each, however many there are."""
    return (values[at : at + _AT_ONCE] for at in range(0, len(values), _AT_ONCE))


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Those whose key is not there yet; somebody else may write the same at the same time."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    if rows:
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))


def read(connection: Connection, rows: Sequence[Row[Any]]) -> list[Model]:
    """The models of these rows of `model`, in their order: one query for all that is said of all of them."""
    said = _said(connection, [row[0] for row in rows])
    names = [column.name for column in MODEL.columns]
    models = []
    for row in rows:
        facts = dict(zip(names, row, strict=True))
        del facts["name_key"]
        digests, sources, triggers, statements, tags, overrides = said.get(facts["id"], _NOTHING)
        models.append(
            Model(
                **facts,
                digests=tuple(digest for digest in digests if digest.by != BEFORE),
                sources=tuple(sources),
                trigger_words=tuple(triggers),
                statements=tuple(statements),
                tags=tuple(dict.fromkeys(tags)),
                overrides=dict(overrides),
            )
        )
    return models


_TEXT = 3  # where the texts begin in a row of the query below, behind part, model and place


class _Part(NamedTuple):
    """A table of what is said of models, as a part of the one query for all of it.

    `texts` and `numbers`: columns to read, JSON as it is written. A model's rows are ordered by the column `place` (None: they have none),
    then by the first two texts. `value`: what a row becomes, whose texts begin at _TEXT and whose numbers come last.
    """

    table: Table
    place: str | None
    texts: tuple[str, ...]
    value: Callable[[Sequence[Any]], Any]
    numbers: tuple[str, ...] = ()


_PARTS = (
    _Part(DIGEST, None, ("by", "algorithm", "value"), lambda row: Digest(row[4], row[5], row[3])),
    _Part(SOURCE, "id", Provenance._fields, lambda row: Provenance(*row[3:9])),
    _Part(table_of(TriggerRow), "position", Trigger._fields, lambda row: Trigger(*row[3:5])),
    _Part(
        table_of(StatementRow),
        "rank",
        ("name", "value", "by", "quote"),
        lambda row: Statement(row[3], loads(row[4]), row[5], row[6], *row[-2:]),
        ("minimum", "maximum"),
    ),
    _Part(TAG, None, ("name",), itemgetter(_TEXT)),
    _Part(table_of(OverrideRow), None, ("name", "value"), lambda row: (row[3], loads(row[4]))),
)
_NOTHING: tuple[list[Any], ...] = tuple([] for _ in _PARTS)
_TEXTS = max(len(part.texts) for part in _PARTS)
_NUMBERS = max(len(part.numbers) for part in _PARTS)
_ORDER = itemgetter(0, 2, _TEXT, _TEXT + 1)  # by code point, which is not every database's


def _said(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[list[Any], ...]]:
    """Values by model, those of each of _PARTS in order; models of which nothing is said are left out."""
    is_sqlite = connection.dialect.name == "sqlite"
    parameter = dumps(ids).decode() if is_sqlite else ids
    found: dict[str, tuple[list[Any], ...]] = {}
    for row in sorted(connection.execute(_of_models(is_sqlite), {"ids": parameter}).all(), key=_ORDER):
        number, model_id = row[0], row[1]
        if model_id not in found:
            found[model_id] = tuple([] for _ in _PARTS)
        found[model_id][number].append(_PARTS[number].value(row))
    return found


@cache
def _of_models(is_sqlite: bool) -> CompoundSelect[Any]:
    """Made once: to build a statement takes longer than to run it. The ids are one parameter, so its text is always the same."""
    return union_all(*(_of_part(number, part, is_sqlite) for number, part in enumerate(_PARTS)))


def _of_part(number: int, part: _Part, is_sqlite: bool) -> Select[Any]:
    columns = part.table.c
    texts: list[ColumnElement[Any]] = [
        cast(c, Text) if isinstance(c.type, JSON) else c for c in (columns[name] for name in part.texts)
    ]
    texts += [cast(null(), Text)] * (_TEXTS - len(texts))
    numbers: list[ColumnElement[Any]] = [columns[name] for name in part.numbers]
    numbers += [cast(null(), Float)] * (_NUMBERS - len(numbers))
    place = columns[part.place] if part.place else literal_column("0")
    ids: ColumnElement[bool]
    if is_sqlite:
        each = func.json_each(bindparam("ids", type_=Text)).table_valued("value")
        ids = columns.model_id.in_(select(each.c.value))
    else:
        ids = columns.model_id == any_(bindparam("ids", type_=postgresql.ARRAY(String)))
    chosen = [literal_column(str(number)), columns.model_id, place, *texts, *numbers]
    return select(*(column.label(f"c{n}") for n, column in enumerate(chosen))).where(ids)
