"""An install's states: one table of transitions, one function that moves."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sqlalchemy import Engine, update
from sqlmodel import Session, col, select

from registry.db import unit_of_work
from registry.errors import InstallNotFound, WrongState
from registry.tables import Install, State, now

ACTIVE = (State.QUEUED, State.RESOLVING, State.DOWNLOADING, State.PROBING, State.REGISTERING)
ENDED = (State.INSTALLED, State.FAILED, State.CANCELLED, State.PAUSED)  # nothing more happens by itself
_STOPS = {State.FAILED, State.CANCELLED, State.PAUSED}

# A service that was killed queues its active installs again, so every active state leads back to `queued`; what is already on disk is
# not fetched twice. `installed` straight from `resolving` is a model that the registry has already.
TRANSITIONS: dict[State, set[State]] = {
    State.QUEUED: {State.RESOLVING} | _STOPS,
    State.RESOLVING: {State.QUEUED, State.DOWNLOADING, State.INSTALLED} | _STOPS,
    State.DOWNLOADING: {State.QUEUED, State.PROBING} | _STOPS,
    State.PROBING: {State.QUEUED, State.REGISTERING} | _STOPS,
    State.REGISTERING: {State.QUEUED, State.INSTALLED, State.FAILED},  # a row and a rename: too late to stop it
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

    def list(self, *, states: tuple[State, ...] = tuple(State), limit: int | None = 100) -> list[Install]:
        """Newest first."""
        query = (
            select(Install).where(col(Install.state).in_(states)).order_by(col(Install.created_at).desc()).limit(limit)
        )
        with Session(self._engine) as session:
            return list(session.exec(query))

    def move(self, install_id: str, to: State, **fields: Any) -> Install:
        """The only way a state changes: one UPDATE, so that of two who move at once one wins. Raises WrongState, InstallNotFound."""
        allowed = [state for state, targets in TRANSITIONS.items() if to in targets]
        query = update(Install).where(col(Install.id) == install_id, col(Install.state).in_(allowed))
        with unit_of_work(self._engine) as session:
            moved = session.connection().execute(query.values(state=to, updated_at=now(), **fields)).rowcount
        install = self.get(install_id)
        if not moved:
            raise WrongState(f"Install {install_id} is {install.state}; it cannot become {to}.", install=install_id)
        return install

    def end(self, install_id: str, to: State, error: dict[str, Any] | None = None) -> None:
        """Move an active install to where its worker leaves it; one that somebody has cancelled or paused meanwhile stays so."""
        with suppress(WrongState):
            self.move(install_id, to, error=error)

    def progress(self, install_id: str, bytes_done: int) -> str:
        """Write the byte count; returns the state, which somebody else may have changed."""
        with unit_of_work(self._engine) as session:
            install = session.get_one(Install, install_id)
            install.sqlmodel_update({"bytes_done": bytes_done, "updated_at": now()})
        return install.state
