"""Following what takes long: server-sent events of a generation, or of a row that workers write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Protocol

from fastapi import Header, Request
from fastapi.sse import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from registry.errors import WrongState
from registry.generation import Event, Job
from registry.manager import Manager

POLL_SECONDS = 0.2  # between two looks at a row: people see no difference below it
LastEventId = Annotated[int, Header(ge=0, description="Of the last event that was seen; those after it are sent.")]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Row(Protocol):
    """An install or a scan as it is answered."""

    state: str
    updated_at: datetime


async def follow_row(look: Callable[[], Row], ended: Container[str], after: int) -> AsyncIterator[ServerSentEvent]:
    """The row whenever it has changed, named by its state, until that is one of `ended`.

    An event's id is the time of the change in microseconds. Each says all there is to know: whoever was cut off needs only the newest.
    """
    while True:
        row = await run_in_threadpool(look)
        number = (row.updated_at - _EPOCH) // timedelta(microseconds=1)
        if number > after:
            after = number
            yield ServerSentEvent(data=row, event=row.state, id=str(number))
        if row.state in ended:
            return
        await asyncio.sleep(POLL_SECONDS)


async def follow_generation(job: Job, after: int = 0) -> AsyncIterator[Event]:
    """Its events with a number above `after`, as they come, until it has ended."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    stop = job.listen(partial(loop.call_soon_threadsafe, changed.set))
    try:
        while True:
            changed.clear()
            ended = job.ended
            for event in job.events(after):
                after = event.number
                yield event
            if ended:
                return
            await changed.wait()
    finally:
        stop()


async def until_ended(manager: Manager, job: Job, request: Request) -> None:
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
        give_up(manager, job)


def give_up(manager: Manager, job: Job) -> None:
    """Cancel it unless it has ended: nobody waits for it any more."""
    if not job.ended:
        with suppress(WrongState):  # it ended just now
            manager.generator.queue.cancel(job.id)


@asynccontextmanager
async def still_there(request: Request) -> AsyncIterator[Callable[[], bool]]:
    """Whether the client still waits for the answer; can be asked from any thread."""
    leaving = asyncio.create_task(_gone(request))
    try:
        yield lambda: not leaving.done()
    finally:
        leaving.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
