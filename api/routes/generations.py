"""POST /v1/generations: pictures, and the Plan that made them; at once, or as a job to watch."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.access import GENERATE, GENERATIONS, CallerDep
from api.deps import GenerationId, ManagerDep
from api.examples import events
from api.following import LastEventId, follow_generation, until_ended
from api.problems import FAILURES, REFUSALS, raises
from api.schemas.generations import GenerationIn, GenerationJobOut, GenerationList, GenerationOut
from registry import errors
from registry.generation import Job
from registry.generation.previewing import never, throttled
from registry.manager import Manager

router = APIRouter(prefix="/v1/generations", tags=["generations"])

LISTED = 100

ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {"model": GenerationJobOut, "description": "Queued; `Location` is where to watch it."},
}


SEEN = events(
    ("queued", {}),
    ("running", {}),
    ("step", {"done": 1, "total": 4}),
    ("preview", {"done": 1, "total": 4, "images": ["iVBORw0KGgo..."]}),
    ("succeeded", {"timings": {"total": 1.2}, "warnings": []}),
)


@router.post("", responses={**ANSWERS, **raises(*REFUSALS, *FAILURES)}, dependencies=[GENERATE])
async def generate(
    manager: ManagerDep,
    caller: CallerDep,
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
    job = await run_in_threadpool(
        manager.generator.submit,
        body.request(),
        previews=throttled() if body.previews else never,
        owner=caller.name,
    )
    response.headers["Location"] = f"/v1/generations/{job.id}"
    if not wait or "respond-async" in prefer.lower():
        response.status_code = 202
        return _view(manager, job)
    await until_ended(manager, job, request)
    if job.error:
        raise job.error
    return await run_in_threadpool(lambda: GenerationOut.of(job, job.wait()))


@router.get("", dependencies=[GENERATIONS])
def list_generations(manager: ManagerDep, caller: CallerDep) -> GenerationList:
    """Those that wait, run, or ended not long ago, newest first, a hundred at most; without their pictures."""
    jobs = [job for job in manager.generator.queue.list() if caller.sees(job.owner)]
    return GenerationList(generations=[_view(manager, job, pictures=False) for job in jobs[:LISTED]])


def existing(manager: ManagerDep, caller: CallerDep, generation_id: GenerationId) -> Job:
    """Asked before a stream starts: afterwards a 404 could no longer be answered. To whom may not see it, it is not there."""
    job = manager.generator.queue.get(generation_id)
    if not caller.sees(job.owner):
        raise errors.GenerationNotFound(f"There is no generation “{generation_id}”.", generation=generation_id)
    return job


Existing = Annotated[Job, Depends(existing)]


@router.get("/{generation_id}", dependencies=[GENERATIONS], responses=raises(errors.GenerationNotFound))
def show_generation(manager: ManagerDep, job: Existing) -> GenerationJobOut:
    """Its state, and its pictures once it has succeeded. Ended ones are kept for a while: 256 MiB of pictures."""
    return _view(manager, job)


@router.delete(
    "/{generation_id}", dependencies=[GENERATE], responses=raises(errors.GenerationNotFound, errors.WrongState)
)
def cancel_generation(manager: ManagerDep, job: Existing) -> GenerationJobOut:
    """Cancel one that has not ended, at once; what it loads is given up, unless somebody else waits for it."""
    return _view(manager, manager.generator.queue.cancel(job.id))


@router.get(
    "/{generation_id}/events",
    response_class=EventSourceResponse,
    dependencies=[GENERATIONS],
    responses={**SEEN, **raises(errors.GenerationNotFound)},
)
async def watch_generation(
    manager: ManagerDep, job: Existing, last_event_id: LastEventId = 0
) -> AsyncIterable[ServerSentEvent]:
    """Server-sent events: `queued`, `running`, `waiting` {for: what, or null when that is over}, `step` {done, total}, `preview` {images:
    [PNG in base64]} if asked for, and the end: `succeeded`, `failed` or `cancelled`. Whoever comes back with `Last-Event-ID` goes on
    where he was."""
    async for event in follow_generation(job, last_event_id):
        yield ServerSentEvent(data=event.data, event=event.name, id=str(event.number))


def _view(manager: Manager, job: Job, *, pictures: bool = True) -> GenerationJobOut:
    return GenerationJobOut.of(job, manager.generator.queue.ahead(job), pictures=pictures)
