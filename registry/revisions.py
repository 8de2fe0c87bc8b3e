"""A model whose file is looked at again: what stays of its record, by whether its bytes do. Within transactions of `Catalog.writing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, select, true, update

from registry.accelerations import ACCELERATION
from registry.models import BEFORE, Model, ModelFile
from registry.rows import DIGEST, MODEL, SAID, SOURCE, TAG, TEXT, USER, rows_of, table_of, tell, write
from registry.tables import (
    DigestRow,
    ModelRow,
    OverrideRow,
    ReportRow,
    SourceRow,
    StatementRow,
    TagRow,
    TriggerRow,
    now,
)


def reclassify(connection: Connection, model: Model, report: Mapping[str, Any]) -> None:
    """The same bytes, looked at again: what the probe says is new, and what lies beside a model that was registered where it lies."""
    names = ("kind", "family", "variant", "prediction_type", "format", "structure", "missing_since")
    values = {name: getattr(model, name) for name in names}
    connection.execute(update(MODEL).where(MODEL.c.id == model.id).values(**values))
    probed, statement, trigger = table_of(ReportRow), table_of(StatementRow), table_of(TriggerRow)
    told = update(probed).where(probed.c.model_id == model.id)
    connection.execute(told.values(data=dict(report), probed_at=now()))
    rows = rows_of(model, report, ())
    old = [(statement, statement.c.name == ACCELERATION), (TAG, TAG.c.by != USER)]
    if model.managed:
        rows[StatementRow] = [row for row in rows[StatementRow] if row["name"] == ACCELERATION]
        rows[TriggerRow] = []
    else:
        old += [(statement, true()), (trigger, true())]
    for table, which in old:
        connection.execute(delete(table).where(table.c.model_id == model.id, which))
    write(connection, [{kind: rows[kind] for kind in (TagRow, StatementRow, TriggerRow)}])
    tell(connection, [model.id])


def revise(connection: Connection, model: Model, report: Mapping[str, Any], files: Sequence[ModelFile] = ()) -> None:
    """A model that is there (same id) was written to: what was said of the old bytes goes; the user's own settings stay, and until the
    new bytes are hashed, where the old ones came from, if they may be the same: they had a digest and were as many."""
    size = connection.execute(select(MODEL.c.size).where(MODEL.c.id == model.id)).scalar_one()
    old = (DIGEST.c.model_id == model.id, DIGEST.c.algorithm == "blake3", DIGEST.c.by.in_(("", BEFORE)))
    was = connection.execute(select(DIGEST.c.value).where(*old).order_by(DIGEST.c.by)).scalar()
    may_be_same = was is not None and size == model.size
    rows = rows_of(model, report, files)
    [values] = rows.pop(ModelRow)
    del rows[OverrideRow]
    connection.execute(update(MODEL).where(MODEL.c.id == model.id).values(**values))
    for kind in (*SAID, *(() if may_be_same else (SourceRow,))):
        table = table_of(kind)
        said = table.c.model_id == model.id
        connection.execute(delete(table).where(said & (table.c.by != USER) if table is TAG else said))
    if may_be_same:
        rows[SourceRow] = []  # those that are there stay
        rows[DigestRow].append({"model_id": model.id, "algorithm": "blake3", "by": BEFORE, "value": was})
    write(connection, [{kind: values for kind, values in rows.items() if table_of(kind) is not TEXT}])
    tell(connection, [model.id])


def settle(connection: Connection, model: Model, blake3: str) -> None:
    """Its bytes are hashed again: where they came from counts on only if they are what they were."""
    before = (DIGEST.c.model_id == model.id, DIGEST.c.by == BEFORE)
    was = connection.execute(select(DIGEST.c.value).where(*before)).scalar()
    connection.execute(delete(DIGEST).where(*before))
    if was not in (None, blake3):
        connection.execute(delete(SOURCE).where(SOURCE.c.model_id == model.id))
    tell(connection, [model.id])
