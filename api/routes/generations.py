"""POST /v1/generations: pictures, and the Plan that made them; at once, or as a job to watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from contextlib import suppress
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.deps import ManagerDep
from api.schemas.generations import GenerationIn, GenerationJobOut, GenerationList, GenerationOut
from registry.errors import WrongState
from registry.generation import Job
from registry.manager import Manager

router = APIRouter(prefix="/v1/generations", tags=["generations"])

ANSWERS = {
    202: {"model": GenerationJobOut, "description": "Queued; `Location` is where to watch it."},
    429: {"description": "Too many wait; `Retry-After` says in how many seconds to come back."},
}


@router.post("", responses=ANSWERS)  # type: ignore[arg-type]  # FastAPI's int | str keys are invariant
async def generate(
    manager: ManagerDep,
    body: GenerationIn,
    request: Request,
    response: Response,
    wait: Annotated[
        bool, Query(description="Whether to answer with the pictures; false: at once, with the job.")
    ] = True,
    prefer: Annotated[str, Header(description="`respond-async` is the same as `wait=false`.")] = "",
) -> GenerationOut | GenerationJobOut:
    """Values left out are decided by the recipes; the answer's `plan` says for each where it came from.

    A client that goes away while it waits cancels its generation.
    """
    job = await run_in_threadpool(manager.generator.submit, body.request(), previews=body.previews)
    response.headers["Location"] = f"/v1/generations/{job.id}"
    if not wait or "respond-async" in prefer.lower():
        response.status_code = 202
        return _view(manager, job)
    await _ended(manager, job, request)
    if job.error:
        raise job.error
    return await run_in_threadpool(lambda: GenerationOut.of(job, job.wait()))


@router.get("")
def list_generations(manager: ManagerDep) -> GenerationList:
    """Those that wait, run, or ended not long ago, newest first; without their pictures."""
    return GenerationList(generations=[_view(manager, job, pictures=False) for job in manager.generator.queue.list()])


def existing(manager: ManagerDep, generation_id: str) -> Job:
    """Asked before a stream starts: afterwards a 404 could no longer be answered."""
    return manager.generator.queue.get(generation_id)


Existing = Annotated[Job, Depends(existing)]


@router.get("/{generation_id}")
def show_generation(manager: ManagerDep, job: Existing) -> GenerationJobOut:
    """Its state, and its pictures once it has succeeded. Ended ones are kept for a while: 256 MiB of pictures."""
    return _view(manager, job)


@router.delete("/{generation_id}")
def cancel_generation(manager: ManagerDep, generation_id: str) -> GenerationJobOut:
    """Cancel one that has not ended: it stops within a step."""
    return _view(manager, manager.generator.queue.cancel(generation_id))


@router.get("/{generation_id}/events", response_class=EventSourceResponse)
async def watch_generation(
    manager: ManagerDep, job: Existing, last_event_id: Annotated[int, Header(ge=0)] = 0
) -> AsyncIterable[ServerSentEvent]:
    """Server-sent events: `queued`, `running`, `step` {done, total}, `preview` {images: [PNG in base64]} if asked for, and the end:
    `succeeded`, `failed` or `cancelled`. Whoever comes back with `Last-Event-ID` goes on where he was."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    stop = job.listen(partial(loop.call_soon_threadsafe, changed.set))
    try:
        while True:
            changed.clear()
            ended = job.ended
            for event in job.events(last_event_id):
                last_event_id = event.number
                yield ServerSentEvent(data=event.data, event=event.name, id=str(event.number))
            if ended:
                return
            await changed.wait()
    finally:
        stop()


def _view(manager: Manager, job: Job, *, pictures: bool = True) -> GenerationJobOut:
    return GenerationJobOut.of(job, manager.generator.queue.ahead(job), pictures=pictures)


async def _ended(manager: Manager, job: Job, request: Request) -> None:
    """Returns when the job has ended, and cancels it when the client goes away before. Keeps no thread meanwhile."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def look() -> None:
        if job.ended:
            loop.call_soon_threadsafe(ended.set)

    stop = job.listen(look)
    look()
    waits = [asyncio.create_task(ended.wait()), asyncio.create_task(_gone(request))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop()
        for task in waits:
            task.cancel()
        if not job.ended:
            with suppress(WrongState):  # it ended just now
                manager.generator.queue.cancel(job.id)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
