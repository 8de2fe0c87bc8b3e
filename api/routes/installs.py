"""POST /v1/installs starts a job; its row in the database is what everybody watches."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.access import MANAGE, READ
from api.deps import Cursor, InstallId, Limit, ManagerDep
from api.examples import states
from api.following import LastEventId, follow_row
from api.problems import SOURCE_ERRORS, raises
from api.schemas.installs import InstallIn, InstallList, InstallOut
from registry import errors
from registry.installs.options import Options
from registry.installs.states import ENDED

router = APIRouter(prefix="/v1/installs", tags=["installs"])


@router.post("", status_code=202, dependencies=[MANAGE], responses=raises(*SOURCE_ERRORS))
def start_install(manager: ManagerDep, body: InstallIn, response: Response) -> InstallOut:
    """Install from a Hugging Face URL, `hf://` address, `OWNER/REPO`, or a path on the server. Watch `/v1/installs/{id}/events`."""
    options = Options(body.place, body.variant, family=body.family, kind=body.kind)
    install = manager.submit_install(body.source, options)
    response.headers["Location"] = f"/v1/installs/{install.id}"
    return InstallOut.of(install)


@router.get("", dependencies=[READ])
def list_installs(manager: ManagerDep, limit: Limit = 100, cursor: Cursor = None) -> InstallList:
    """The newest first, a page at a time: pass `next` as `cursor` for the next one."""
    return InstallList.of(manager.installs.page(limit, cursor))


@router.get("/{install_id}", dependencies=[READ], responses=raises(errors.InstallNotFound))
def show_install(manager: ManagerDep, install_id: InstallId) -> InstallOut:
    """An install as it stands."""
    return InstallOut.of(manager.installs.get(install_id))


@router.delete("/{install_id}", status_code=204, dependencies=[MANAGE], responses=raises(errors.InstallNotFound))
def discard_install(manager: ManagerDep, install_id: InstallId) -> None:
    """Forget an install, and what has arrived of it; one that runs is cancelled first. The model that it became stays."""
    manager.discard_install(install_id)


ORDERS = {
    "pause": "Pauses an install that has not ended.",
    "resume": "Goes on with a paused one.",
    "cancel": "Ends one that has not ended.",
    "retry": "Begins again with one that failed or was cancelled.",
}
"""The commands of registry.installs.states; a test holds the two against each other."""


def _order(command: str, does: str) -> None:
    # A route each, and none for all: /{install_id}/{command} would answer for addresses that are not there.
    @router.post(
        f"/{{install_id}}/{command}",
        dependencies=[MANAGE],
        responses=raises(errors.InstallNotFound, errors.WrongState),
        name=f"{command}_install",
        description=f"{does} What has arrived is kept, and is not fetched again.",
    )
    def order_install(manager: ManagerDep, install_id: InstallId) -> InstallOut:
        return InstallOut.of(manager.order_install(install_id, command))


for _command, _does in ORDERS.items():
    _order(_command, _does)


def existing(manager: ManagerDep, install_id: InstallId) -> str:
    """Asked before the stream starts: afterwards a 404 could no longer be answered."""
    return manager.installs.get(install_id).id


@router.get(
    "/{install_id}/events",
    response_class=EventSourceResponse,
    dependencies=[READ],
    responses={**states(InstallOut, "downloading", "installed"), **raises(errors.InstallNotFound)},
)
async def watch_install(
    manager: ManagerDep, install_id: Annotated[str, Depends(existing)], last_event_id: LastEventId = 0
) -> AsyncIterable[ServerSentEvent]:
    """Server-sent events, named by the install's state, each with the install as data; the last one is its end.

    A paused install has not ended: its stream stays open.
    """
    async for event in follow_row(lambda: InstallOut.of(manager.installs.get(install_id)), ENDED, last_event_id):
        yield event
