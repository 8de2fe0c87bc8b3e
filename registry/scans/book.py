"""The scans that were asked for, as rows that everybody can watch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine, update
from sqlmodel import Session, col, select

from registry.db import unit_of_work
from registry.errors import ScanNotFound, WrongState
from registry.scans.skips import Skip
from registry.tables import ScanRow, now
from registry.transitions import move


class ScanState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (ScanState.DONE, ScanState.FAILED, ScanState.CANCELLED)
# A killed service's scans start again: a scan repeats nothing that it has done.
TRANSITIONS: dict[ScanState, set[ScanState]] = {
    ScanState.QUEUED: {ScanState.RUNNING, ScanState.FAILED, ScanState.CANCELLED},
    ScanState.RUNNING: {ScanState.QUEUED, ScanState.DONE, ScanState.FAILED, ScanState.CANCELLED},
    ScanState.DONE: set(),
    ScanState.FAILED: set(),
    ScanState.CANCELLED: set(),
}


class ScanBook:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def open(self, folder: str) -> ScanRow:
        """The scan of this folder that has not begun yet, or a new one: asking twice starts one."""
        waiting = select(ScanRow).where(ScanRow.folder == folder, ScanRow.state == ScanState.QUEUED)
        with unit_of_work(self._engine) as session:
            scan = session.exec(waiting).first() or ScanRow(folder=folder, state=ScanState.QUEUED)
            session.add(scan)
        return scan

    def get(self, scan_id: str) -> ScanRow:
        """Raises ScanNotFound."""
        with Session(self._engine) as session:
            scan = session.get(ScanRow, scan_id)
        if scan is None:
            raise ScanNotFound(f"There is no scan “{scan_id}”.", scan=scan_id)
        return scan

    def list(self, limit: int = 100) -> list[ScanRow]:
        """Newest first."""
        with Session(self._engine) as session:
            return list(session.exec(select(ScanRow).order_by(col(ScanRow.created_at).desc()).limit(limit)))

    def move(self, scan_id: str, to: ScanState, **values: Any) -> ScanRow:
        """Raises WrongState, ScanNotFound."""
        moved = move(self._engine, ScanRow, scan_id, to, TRANSITIONS, **values)
        scan = self.get(scan_id)
        if not moved:
            raise WrongState(f"Scan {scan_id} is {scan.state}; it cannot become {to}.", scan=scan_id)
        return scan

    def progress(self, scan_id: str, counts: dict[str, int], skips: Iterable[Skip]) -> str:
        """Write what was found until now; returns the state, which somebody may have changed."""
        with unit_of_work(self._engine) as session:
            scan = session.get_one(ScanRow, scan_id)
            told = {"counts": counts, "skips": [asdict(skip) for skip in skips]}
            scan.sqlmodel_update({**told, "updated_at": now()})
        return scan.state

    def left_behind(self) -> Sequence[str]:
        """Ids of the scans that no running service will finish, queued again. Only for a service that has just started."""
        with unit_of_work(self._engine) as session:
            running = update(ScanRow).where(col(ScanRow.state) == ScanState.RUNNING)
            session.connection().execute(running.values(state=ScanState.QUEUED, updated_at=now()))
            queued = select(ScanRow.id).where(ScanRow.state == ScanState.QUEUED).order_by(col(ScanRow.created_at))
            return list(session.exec(queued))
