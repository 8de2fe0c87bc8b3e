"""An install's states: one table of transitions, one function that moves."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from registry.db import unit_of_work
from registry.errors import InstallNotFound, InvalidRequest
from registry.tables import Install, State, now

ACTIVE = (State.QUEUED, State.RESOLVING, State.DOWNLOADING, State.PROBING, State.REGISTERING)
ENDED = (State.INSTALLED, State.FAILED, State.CANCELLED)
_STOPS = {State.FAILED, State.CANCELLED, State.PAUSED}

# A service that was killed queues its active installs again, so every active state leads back to `queued`; what is already on disk is
# not fetched twice. `installed` straight from `resolving` is a model that the registry has already.
TRANSITIONS: dict[State, set[State]] = {
    State.QUEUED: {State.RESOLVING} | _STOPS,
    State.RESOLVING: {State.QUEUED, State.DOWNLOADING, State.INSTALLED} | _STOPS,
    State.DOWNLOADING: {State.QUEUED, State.PROBING} | _STOPS,
    State.PROBING: {State.QUEUED, State.REGISTERING} | _STOPS,
    State.REGISTERING: {State.QUEUED, State.INSTALLED} | _STOPS,
    State.PAUSED: {State.QUEUED, State.CANCELLED},
    State.FAILED: {State.QUEUED},
    State.INSTALLED: set(),
    State.CANCELLED: {State.QUEUED},
}


class InstallBook:
    """The install rows of one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def open(self, source: str) -> Install:
        install = Install(source=source)
        with unit_of_work(self._engine) as session:
            session.add(install)
        return install

    def get(self, install_id: str) -> Install:
        with Session(self._engine) as session:
            install = session.get(Install, install_id)
        if install is None:
            raise InstallNotFound(f"There is no install “{install_id}”.", install=install_id)
        return install

    def list(self, *, states: tuple[State, ...] = tuple(State), limit: int = 100) -> list[Install]:
        """Newest first."""
        query = (
            select(Install).where(col(Install.state).in_(states)).order_by(col(Install.created_at).desc()).limit(limit)
        )
        with Session(self._engine) as session:
            return list(session.exec(query))

    def move(self, install_id: str, to: State, **fields: Any) -> Install:
        """The only way a state changes. Raises InvalidRequest for a move that TRANSITIONS does not have."""
        with unit_of_work(self._engine) as session:
            install = session.get(Install, install_id, with_for_update=True)
            if install is None:
                raise InstallNotFound(f"There is no install “{install_id}”.", install=install_id)
            if to not in TRANSITIONS[State(install.state)]:
                raise InvalidRequest(
                    f"Install {install_id} is {install.state}; it cannot become {to}.", install=install_id
                )
            install.state = to
            install.sqlmodel_update(fields | {"updated_at": now()})
        return install

    def fail(self, install_id: str, error: dict[str, Any]) -> None:
        """Record an error; an install that somebody has cancelled or paused meanwhile stays so."""
        if self.get(install_id).state in ACTIVE:
            self.move(install_id, State.FAILED, error=error)

    def progress(self, install_id: str, bytes_done: int) -> str:
        """Write the byte count; returns the state, which somebody else may have changed."""
        with unit_of_work(self._engine) as session:
            install = session.get_one(Install, install_id)
            install.sqlmodel_update({"bytes_done": bytes_done, "updated_at": now()})
        return install.state
