"""POST /v1/installs starts a job; its row in the database is what everybody watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.deps import ManagerDep
from api.schemas import InstallIn, InstallList, InstallOut
from registry.installs.options import Options
from registry.installs.states import ENDED, POLL_SECONDS

router = APIRouter(prefix="/v1/installs", tags=["installs"])


class Order(StrEnum):
    """The commands of registry.installs.states; a test holds the two against each other."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"


@router.post("", status_code=202)
def start_install(manager: ManagerDep, body: InstallIn, response: Response) -> InstallOut:
    """Install from a Hugging Face URL, `hf://` address, `OWNER/REPO`, or a path on the server. Watch `/v1/installs/{id}/events`."""
    install = manager.submit_install(body.source, Options(body.place, body.variant))
    response.headers["Location"] = f"/v1/installs/{install.id}"
    return InstallOut.of(install)


@router.get("")
def list_installs(manager: ManagerDep) -> InstallList:
    """The newest hundred."""
    return InstallList(installs=[InstallOut.of(i) for i in manager.installs.list()])


@router.get("/{install_id}")
def show_install(manager: ManagerDep, install_id: str) -> InstallOut:
    return InstallOut.of(manager.installs.get(install_id))


@router.delete("/{install_id}", status_code=204)
def discard_install(manager: ManagerDep, install_id: str) -> None:
    """Forget an install, and what has arrived of it; one that runs is cancelled first. The model that it became stays."""
    manager.discard_install(install_id)


@router.post("/{install_id}/{command}")
def order_install(manager: ManagerDep, install_id: str, command: Order) -> InstallOut:
    """Pause or cancel an install that has not ended; resume a paused one; retry one that failed or was cancelled.

    What has arrived is kept, and is not fetched again.
    """
    return InstallOut.of(manager.order_install(install_id, command))


def existing(manager: ManagerDep, install_id: str) -> str:
    """Asked before the stream starts: afterwards a 404 could no longer be answered."""
    return manager.installs.get(install_id).id


@router.get("/{install_id}/events", response_class=EventSourceResponse)
async def watch_install(
    manager: ManagerDep, install_id: Annotated[str, Depends(existing)]
) -> AsyncIterable[ServerSentEvent]:
    """Server-sent events, named by the install's state, each with the install as data; the last one is the end of the job.

    A paused install has not ended: its stream stays open.
    """
    last = None
    while True:
        install = InstallOut.of(await run_in_threadpool(manager.installs.get, install_id))
        if install != last:
            yield ServerSentEvent(data=install, event=install.state)
        if install.state in ENDED:
            return
        last = install
        await asyncio.sleep(POLL_SECONDS)
