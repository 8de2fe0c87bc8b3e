"""What is being generated over WebUI's API, to look at, skip or interrupt."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from api.following import give_up, until_ended
from api.sdapi.schemas import Progress, State
from registry.errors import Cancelled
from registry.generation import Job
from registry.generation import State as JobState
from registry.generation.previewing import throttled
from registry.manager import Manager
from registry.plans import GenerationRequest


@dataclass
class Task:
    """One request: batches, one after the other."""

    batches: int
    number: int = 0
    job: Job | None = None
    skipped: bool = False
    interrupted: bool = False
    started: float = field(default_factory=time.monotonic)
    timestamp: str = field(default_factory=lambda: time.strftime("%Y%m%d%H%M%S"))


class Console:
    """Lives on the event loop, as its routes do."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._tasks: list[Task] = []

    async def run(self, base: GenerationRequest, batches: int, request: Request) -> list[Job]:
        """The jobs that succeeded, batch by batch; those that were skipped or interrupted are missing. Raises what a job failed with."""
        task = Task(batches)
        self._tasks.append(task)
        made: list[Job] = []
        try:
            for task.number in range(batches):
                job = task.job = await run_in_threadpool(self._manager.generator.submit, base, previews=throttled())
                if task.interrupted:  # while the batch was being planned
                    self._stop(task)
                await until_ended(self._manager, job, request)
                if job.error is None:
                    made.append(job)
                elif not (isinstance(job.error, Cancelled) and (task.skipped or task.interrupted)):
                    raise job.error
                if task.interrupted:
                    break
                task.skipped = False
                base = replace(base, seed=(job.plan.seed.value + base.n) % 2**32)
        finally:
            self._tasks.remove(task)
        return made

    def skip(self) -> None:
        """The batch that runs is given up, the request goes on with its next."""
        if (task := self._current()) is not None:
            task.skipped = True
            self._stop(task)

    def interrupt(self) -> None:
        """The request that runs ends, with what it has made until now."""
        if (task := self._current()) is not None:
            task.interrupted = True
            self._stop(task)

    def progress(self, *, with_image: bool) -> Progress:
        task = self._current()
        if task is None or task.job is None:
            return Progress()
        done, total = task.job.done, task.job.total
        progress = (task.number + (done / total if total else 0)) / task.batches
        spent = time.monotonic() - task.started
        return Progress(
            progress=progress,
            eta_relative=spent / progress - spent if progress else 0,
            state=State(
                skipped=task.skipped,
                interrupted=task.interrupted,
                stopping_generation=task.interrupted,
                job=task.job.id,
                job_count=task.batches,
                job_timestamp=task.timestamp,
                job_no=task.number,
                sampling_step=done,
                sampling_steps=total or task.job.plan.steps.value,
            ),
            current_image=_preview(task.job) if with_image else None,
        )

    def _current(self) -> Task | None:
        """The one whose batch runs, else the one that has waited longest."""
        running = (task for task in self._tasks if task.job and task.job.state == JobState.RUNNING)
        return next(running, self._tasks[0] if self._tasks else None)

    def _stop(self, task: Task) -> None:
        if task.job is not None:
            give_up(self._manager, task.job)


def _preview(job: Job) -> str | None:
    shown = [event.data["images"][0] for event in job.events() if event.name == "preview"]
    return shown[-1] if shown else None
