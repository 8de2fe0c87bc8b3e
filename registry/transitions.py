"""How the state of a row changes: by its table of transitions, in one UPDATE, so that of two who move at once one wins."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Engine, update

from registry.db import unit_of_work
from registry.rows import table_of
from registry.tables import Install, ScanRow, now

State = TypeVar("State", bound=StrEnum)


def move(
    engine: Engine,
    model: type[Install | ScanRow],
    row_id: str,
    to: State,
    transitions: Mapping[State, Collection[State]],
    *conditions: ColumnElement[bool],
    **values: Any,
) -> bool:
    """Whether the row was in a state that leads to `to`, met the `conditions`, and is moved; `values` are written with it."""
    table = table_of(model)
    since = [state for state, targets in transitions.items() if to in targets]
    query = update(table).where(table.c.id == row_id, table.c.state.in_(since), *conditions)
    with unit_of_work(engine) as session:
        return bool(session.connection().execute(query.values(state=to, updated_at=now(), **values)).rowcount)
