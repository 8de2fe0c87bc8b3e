"""What is being generated over WebUI's API, to look at, skip or interrupt."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from api.access import Caller
from api.following import give_up, until_ended
from api.sdapi.schemas import Progress, State
from registry.errors import Cancelled
from registry.generation import Job, JobState
from registry.generation.previewing import throttled
from registry.manager import Manager
from registry.plans import GenerationRequest


@dataclass
class Run:
    """One request: batches, one after the other."""

    batches: int
    owner: str
    number: int = 0
    job: Job | None = None
    skipped: bool = False
    interrupted: bool = False
    started: float = field(default_factory=time.monotonic)
    timestamp: str = field(default_factory=lambda: time.strftime("%Y%m%d%H%M%S"))


class Console:
    """Lives on the event loop, as its routes do. Each caller has those requests before him that he may see."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._runs: list[Run] = []

    async def generate(self, base: GenerationRequest, batches: int, request: Request) -> list[Job]:
        """The jobs that succeeded, batch by batch; those that were skipped or interrupted are missing. Raises what a job failed with."""
        caller: Caller = request.state.caller
        run = Run(batches, caller.name)
        self._runs.append(run)
        made: list[Job] = []
        try:
            for run.number in range(batches):
                job = run.job = await run_in_threadpool(
                    self._manager.generator.submit, base, previews=throttled(), owner=run.owner
                )
                if run.interrupted:  # while the batch was being planned
                    self._stop(run)
                await until_ended(self._manager, job, request)
                if job.error is None:
                    made.append(job)
                elif not (isinstance(job.error, Cancelled) and (run.skipped or run.interrupted)):
                    raise job.error
                if run.interrupted:
                    break
                run.skipped = False
                base = replace(base, seed=(job.plan.seed.value + base.n) % 2**32)
        finally:
            self._runs.remove(run)
        return made

    def skip(self, caller: Caller) -> None:
        """The batch that runs is given up, the request goes on with its next."""
        if (run := self._current(caller)) is not None:
            run.skipped = True
            self._stop(run)

    def interrupt(self, caller: Caller) -> None:
        """The request that runs ends, with what it has made until now."""
        if (run := self._current(caller)) is not None:
            run.interrupted = True
            self._stop(run)

    def progress(self, caller: Caller, *, with_image: bool) -> Progress:
        run = self._current(caller)
        if run is None or run.job is None:
            return Progress()
        done, total = run.job.done, run.job.total
        progress = (run.number + (done / total if total else 0)) / run.batches
        spent = time.monotonic() - run.started
        return Progress(
            progress=progress,
            eta_relative=spent / progress - spent if progress else 0,
            state=State(
                skipped=run.skipped,
                interrupted=run.interrupted,
                stopping_generation=run.interrupted,
                job=run.job.id,
                job_count=run.batches,
                job_timestamp=run.timestamp,
                job_no=run.number,
                sampling_step=done,
                sampling_steps=total or run.job.plan.steps.value,
            ),
            current_image=_preview(run.job) if with_image else None,
        )

    def _current(self, caller: Caller) -> Run | None:
        """The one whose batch runs, else the one that has waited longest."""
        seen = [run for run in self._runs if caller.sees(run.owner)]
        running = (run for run in seen if run.job and run.job.state == JobState.RUNNING)
        return next(running, seen[0] if seen else None)

    def _stop(self, run: Run) -> None:
        if run.job is not None:
            give_up(self._manager, run.job)


def _preview(job: Job) -> str | None:
    shown = [event.data["images"][0] for event in job.events() if event.name == "preview"]
    return shown[-1] if shown else None
