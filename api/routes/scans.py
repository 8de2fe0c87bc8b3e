"""POST /v1/scans registers the models of a folder where they lie; its row in the database is what everybody watches."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.access import MANAGE, READ
from api.deps import ManagerDep, ScanId
from api.examples import states
from api.following import LastEventId, follow_row
from api.problems import raises
from api.schemas.installs import ScanIn, ScanList, ScanOut
from registry import errors
from registry.queries import MAX_LIMIT
from registry.scans.book import ENDED

router = APIRouter(prefix="/v1/scans", tags=["scans"])


@router.post("", status_code=202, dependencies=[MANAGE], responses=raises(errors.PathRefused))
def start_scan(manager: ManagerDep, body: ScanIn, response: Response) -> ScanOut:
    """Register what lies in a folder of the server's, in place. Watch `/v1/scans/{id}/events`."""
    scan = manager.scans.submit(body.folder, afresh=body.afresh)
    response.headers["Location"] = f"/v1/scans/{scan.id}"
    return ScanOut.of(scan)


@router.get("", dependencies=[READ])
def list_scans(manager: ManagerDep) -> ScanList:
    """The newest hundred scans, and the folders that were ever scanned: the thousand last ones at most."""
    scans = [ScanOut.of(scan) for scan in manager.scans.book.list()]
    return ScanList(scans=scans, folders=manager.scans.folders(MAX_LIMIT))


@router.get("/{scan_id}", dependencies=[READ], responses=raises(errors.ScanNotFound))
def show_scan(manager: ManagerDep, scan_id: ScanId) -> ScanOut:
    """A scan as it stands."""
    return ScanOut.of(manager.scans.book.get(scan_id))


@router.delete("/{scan_id}", dependencies=[MANAGE], responses=raises(errors.ScanNotFound, errors.WrongState))
def cancel_scan(manager: ManagerDep, scan_id: ScanId) -> ScanOut:
    """End a scan early. What it has found stays."""
    return ScanOut.of(manager.scans.cancel(scan_id))


def existing(manager: ManagerDep, scan_id: ScanId) -> str:
    """Asked before the stream starts: afterwards a 404 could no longer be answered."""
    return manager.scans.book.get(scan_id).id


@router.get(
    "/{scan_id}/events",
    response_class=EventSourceResponse,
    dependencies=[READ],
    responses={**states(ScanOut, "running", "done"), **raises(errors.ScanNotFound)},
)
async def watch_scan(
    manager: ManagerDep, scan_id: Annotated[str, Depends(existing)], last_event_id: LastEventId = 0
) -> AsyncIterable[ServerSentEvent]:
    """Server-sent events, named by the scan's state, each with the scan as data; the last one is its end."""
    async for event in follow_row(lambda: ScanOut.of(manager.scans.book.get(scan_id)), ENDED, last_event_id):
        yield event
