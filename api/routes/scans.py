"""POST /v1/scans registers the models of a folder where they lie; its row in the database is what everybody watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.deps import ManagerDep
from api.schemas.installs import ScanIn, ScanList, ScanOut
from registry.scans.book import ENDED

router = APIRouter(prefix="/v1/scans", tags=["scans"])

POLL_SECONDS = 0.2  # between two looks at the row: people see no difference below it


@router.post("", status_code=202)
def start_scan(manager: ManagerDep, body: ScanIn, response: Response) -> ScanOut:
    """Register what lies in a folder of the server's, in place. Watch `/v1/scans/{id}/events`."""
    scan = manager.scans.submit(body.folder)
    response.headers["Location"] = f"/v1/scans/{scan.id}"
    return ScanOut.of(scan)


@router.get("")
def list_scans(manager: ManagerDep) -> ScanList:
    """The newest hundred, and the folders that were ever scanned."""
    return ScanList(scans=[ScanOut.of(scan) for scan in manager.scans.book.list()], folders=manager.scans.folders())


@router.get("/{scan_id}")
def show_scan(manager: ManagerDep, scan_id: str) -> ScanOut:
    return ScanOut.of(manager.scans.book.get(scan_id))


@router.delete("/{scan_id}")
def cancel_scan(manager: ManagerDep, scan_id: str) -> ScanOut:
    """End a scan early. What it has found stays."""
    return ScanOut.of(manager.scans.cancel(scan_id))


def existing(manager: ManagerDep, scan_id: str) -> str:
    """Asked before the stream starts: afterwards a 404 could no longer be answered."""
    return manager.scans.book.get(scan_id).id


@router.get("/{scan_id}/events", response_class=EventSourceResponse)
async def watch_scan(manager: ManagerDep, scan_id: Annotated[str, Depends(existing)]) -> AsyncIterable[ServerSentEvent]:
    """Server-sent events, named by the scan's state, each with the scan as data; the last one is its end."""
    last = None
    while True:
        scan = ScanOut.of(await run_in_threadpool(manager.scans.book.get, scan_id))
        if scan != last:
            yield ServerSentEvent(data=scan, event=scan.state)
        if scan.state in ENDED:
            return
        last = scan
        await asyncio.sleep(POLL_SECONDS)
