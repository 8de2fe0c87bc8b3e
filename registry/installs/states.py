"""An install's states: one table of transitions, one table of what people may order, one function that moves."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, NoReturn

from sqlalchemy import Engine, delete, literal, tuple_, update
from sqlmodel import Session, col, select

from registry.cursors import pack, unpacked
from registry.db import unit_of_work
from registry.errors import Cancelled, InstallNotFound, WrongState
from registry.measures import Measures, What
from registry.queries import storable
from registry.rows import table_of
from registry.tables import Install, InstallState, now
from registry.transitions import move

ACTIVE = (
    InstallState.QUEUED,
    InstallState.RESOLVING,
    InstallState.DOWNLOADING,
    InstallState.PROBING,
    InstallState.REGISTERING,
)
ENDED = (
    InstallState.INSTALLED,
    InstallState.FAILED,
    InstallState.CANCELLED,
)  # nothing more happens until somebody orders it
_STOPS = {InstallState.FAILED, InstallState.CANCELLED, InstallState.PAUSED}

# A service that was killed queues its active installs again, so every active state leads back to `queued`; what is already on disk is
# not fetched twice. `installed` straight from `resolving` is a model that the registry has already.
TRANSITIONS: dict[InstallState, set[InstallState]] = {
    InstallState.QUEUED: {InstallState.RESOLVING} | _STOPS,
    InstallState.RESOLVING: {InstallState.QUEUED, InstallState.DOWNLOADING, InstallState.INSTALLED} | _STOPS,
    InstallState.DOWNLOADING: {InstallState.QUEUED, InstallState.PROBING} | _STOPS,
    InstallState.PROBING: {InstallState.QUEUED, InstallState.REGISTERING} | _STOPS,
    InstallState.REGISTERING: {InstallState.QUEUED, InstallState.INSTALLED} | _STOPS,
    InstallState.PAUSED: {InstallState.QUEUED, InstallState.CANCELLED},
    InstallState.FAILED: {InstallState.QUEUED},
    InstallState.INSTALLED: set(),
    InstallState.CANCELLED: {InstallState.QUEUED},
}


@dataclass(frozen=True, slots=True)
class Command:
    """What a person may order: the state it leads to, and those it may be given in."""

    to: InstallState
    since: Collection[InstallState]


COMMANDS: dict[str, Command] = {
    "pause": Command(InstallState.PAUSED, ACTIVE),
    "resume": Command(InstallState.QUEUED, (InstallState.PAUSED,)),
    "cancel": Command(InstallState.CANCELLED, (*ACTIVE, InstallState.PAUSED)),
    "retry": Command(InstallState.QUEUED, (InstallState.FAILED, InstallState.CANCELLED)),
}

POLL_SECONDS = 0.2
"""Between two looks at the row: an order given by another process is obeyed within it, and people see no difference below it."""


_TABLE = table_of(Install)
_LIST = "installs"  # marks the cursors of their list


class InstallPage(NamedTuple):
    """`cursor` asks for the next page; None: this is the last."""

    installs: Sequence[Install]
    cursor: str | None


class InstallBook:
    """The install rows of one database."""

    def __init__(self, engine: Engine, measures: Measures | None = None) -> None:
        self._engine = engine
        self._measures = measures or Measures()

    def open(self, source: str, **fields: Any) -> Install:
        install = Install(source=source, **fields)
        with unit_of_work(self._engine) as session:
            session.add(install)
        return install

    def get(self, install_id: str) -> Install:
        with Session(self._engine) as session:
            install = session.get(Install, install_id)
        if install is None:
            raise InstallNotFound(f"There is no install “{install_id}”.", install=install_id)
        return install

    def list(self, *, states: Collection[InstallState] = tuple(InstallState), limit: int | None = 100) -> list[Install]:
        """Newest first."""
        query = (
            select(Install).where(col(Install.state).in_(states)).order_by(col(Install.created_at).desc()).limit(limit)
        )
        with Session(self._engine) as session:
            return list(session.exec(query))

    def staging(self, names: Collection[str], states: Collection[InstallState]) -> set[str]:
        """Those of `names` that are the folder of partial files of an install in one of `states`."""
        if not names:
            return set()
        query = select(col(Install.staging)).where(col(Install.state).in_(states), col(Install.staging).in_(names))
        with Session(self._engine) as session:
            return {name for name in session.exec(query) if name is not None}

    def installed(self, names: Collection[str]) -> Sequence[tuple[str | None, str, dict[str, Any]]]:
        """Staging folder, source and options of those that ended well and whose folder is one of `names`."""
        columns = col(Install.staging), col(Install.source), col(Install.options)
        query = select(*columns).where(col(Install.state) == InstallState.INSTALLED, columns[0].in_(names))
        with Session(self._engine) as session:
            return [(staging, source, options) for staging, source, options in session.exec(query)]

    def let_go(self, names: Collection[str]) -> None:
        """Those that ended well need these folders no more: a later install of the same source has the same name for its own."""
        done = update(Install).where(col(Install.state) == InstallState.INSTALLED, col(Install.staging).in_(names))
        with unit_of_work(self._engine) as session:
            session.connection().execute(done.values(staging=None))

    def page(self, limit: int, cursor: str | None = None) -> InstallPage:
        """Newest first, those after the page that gave `cursor`. Raises InvalidRequest."""
        keys = _TABLE.c.created_at, _TABLE.c.id
        query = select(Install).order_by(*(key.desc() for key in keys)).limit(limit + 1)
        if cursor is not None:
            with unpacked(cursor) as place:
                mark, created, install_id = place
                after = (datetime.fromisoformat(created), install_id)
                if mark != _LIST or not isinstance(install_id, str) or not storable(install_id):
                    raise ValueError("of another list")
            there = (literal(value, key.type) for value, key in zip(after, keys, strict=True))
            query = query.where(tuple_(*keys) < tuple_(*there))
        with Session(self._engine) as session:
            found = session.exec(query).all()
        if len(found) <= limit:
            return InstallPage(found, None)
        last = found[limit - 1]
        return InstallPage(found[:limit], pack([_LIST, last.created_at.isoformat(), last.id]))

    def move(
        self,
        install_id: str,
        to: InstallState,
        *,
        since: Collection[InstallState] = tuple(InstallState),
        attempt: int | None = None,
        **fields: Any,
    ) -> Install:
        """The only way a state changes: one UPDATE, so that of two who move at once one wins.

        `since`, `attempt`: narrow further what TRANSITIONS allows. Whoever queues an install again begins a new attempt; a worker
        that is still at the old one then moves nothing any more. Raises WrongState, InstallNotFound.
        """
        only = [col(Install.state).in_(since), *([] if attempt is None else [col(Install.attempt) == attempt])]
        if to == InstallState.QUEUED:
            fields = {"attempt": Install.attempt + 1, "error": None, "bytes_per_second": None, **fields}
        moved = move(self._engine, Install, install_id, to, TRANSITIONS, *only, **fields)
        install = self.get(install_id)
        if not moved:
            raise WrongState(f"Install {install_id} is {install.state}; it cannot become {to}.", install=install_id)
        if to in ENDED:
            self._measures.tell(What.INSTALL_ENDED, label=to.value)
        return install

    def command(self, install_id: str, name: str) -> Install:
        """Carry out one of COMMANDS. Raises WrongState, InstallNotFound."""
        command = COMMANDS[name]
        try:
            return self.move(install_id, command.to, since=command.since, error=None)
        except WrongState as error:
            state = self.get(install_id).state
            raise WrongState(
                f"Install {install_id} is {state}: there is nothing to {name}.", install=install_id
            ) from error

    def attempt(self, install_id: str) -> Attempt:
        """Begin to work on a queued install. Raises WrongState, InstallNotFound."""
        return Attempt(self, self.move(install_id, InstallState.RESOLVING, since=(InstallState.QUEUED,)))

    def progress(self, install_id: str, **fields: Any) -> Install:
        """Write byte counts; returns the row, whose state somebody else may have changed."""
        with unit_of_work(self._engine) as session:
            install = session.get_one(Install, install_id)
            install.sqlmodel_update({**fields, "updated_at": now()})
        return install

    def forget(self, install_ids: Collection[str]) -> None:
        """Delete rows; the models that came of them stay."""
        with unit_of_work(self._engine) as session:
            session.connection().execute(delete(Install).where(col(Install.id).in_(install_ids)))


class Attempt:
    """One run of one install, which ends when somebody pauses, cancels or queues the install anew."""

    def __init__(self, book: InstallBook, install: Install) -> None:
        self._book = book
        self._number = install.attempt
        self._looked = self._wrote = 0.0
        self.install = install

    def move(self, to: InstallState, **fields: Any) -> Install:
        """Raises Cancelled when the install is no longer this attempt's."""
        try:
            self.install = self._book.move(self.install.id, to, attempt=self._number, **fields)
        except WrongState:
            self.install = self._book.get(self.install.id)
            self._raise()
        return self.install

    def end(self, to: InstallState, error: dict[str, Any] | None = None) -> None:
        """Leave the install in `to`, unless somebody has decided otherwise meanwhile."""
        with suppress(WrongState):
            self._book.move(self.install.id, to, since=ACTIVE, attempt=self._number, error=error, bytes_per_second=None)

    def check(self) -> None:
        """Raise Cancelled when the install is no longer this attempt's; looks at the row every POLL_SECONDS at most."""
        if time.monotonic() - self._looked >= POLL_SECONDS:
            self._look(self._book.get(self.install.id))

    def progress(self, **fields: Any) -> None:
        """Write byte counts, every POLL_SECONDS at most; raises like `check`."""
        if time.monotonic() - self._wrote >= POLL_SECONDS:
            self._wrote = time.monotonic()
            self._look(self._book.progress(self.install.id, **fields))

    def _look(self, install: Install) -> None:
        self._looked, self.install = time.monotonic(), install
        if install.attempt != self._number or install.state not in ACTIVE:
            self._raise()

    def _raise(self) -> NoReturn:
        state = self.install.state if self.install.attempt == self._number else "begun anew"
        raise Cancelled(f"The install was {state}; what has arrived is kept.", install=self.install.id, state=state)
