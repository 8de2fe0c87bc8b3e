"""The queue of one device: a thread that runs one generation after the other."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from threading import Condition, Thread

from registry.errors import Cancelled, GenerationNotFound, ModelshelfError, QueueFull, WrongState
from registry.generation.jobs import Generation, Job
from registry.generation.scheduling import Affinity, Waiting, take
from registry.measures import Measures, What
from registry.tables import now

MAX_OVERTAKEN = 64
"""How many that came later may go before one that waits. Of 200 requests for 20 LoRA sets, shuffled, 64 waiting at a time, it changes sets
41 times; at 16 it would be 91 times, first come first served 190."""
KEPT_BYTES = 256 * 2**20
"""Of pictures of ended generations, which are kept to be fetched; then the oldest are forgotten."""
KEPT_JOBS = 1000
_FIRST_GUESS = 5.0
"""Seconds for a generation, as long as none has been timed."""

_log = logging.getLogger(__name__)

Run = Callable[[Job], Generation]


class GenerationQueue:
    """`run` does the work of one job, calling `job.step`. `capacity`: how many may wait beside the one that runs."""

    def __init__(
        self, run: Run, capacity: int, *, max_overtaken: int = MAX_OVERTAKEN, measures: Measures | None = None
    ) -> None:
        self._run = run
        self._capacity = capacity
        self._bound = max_overtaken
        self._measures = measures or Measures()
        self._changed = Condition()
        self._waiting: tuple[Waiting[Job], ...] = ()
        self._running: Job | None = None
        self._jobs: OrderedDict[str, Job] = OrderedDict()  # oldest first
        self._last: Affinity = ()
        self._seconds = _FIRST_GUESS
        self._closed = False
        self._thread: Thread | None = None

    def submit(self, job: Job) -> Job:
        """Raises QueueFull, with `retry_after` in seconds: when a place should have become free."""
        with self._changed:
            if self._closed:
                raise Cancelled("The service is stopping.")
            if len(self._waiting) >= self._capacity:
                retry_after = max(1, ceil(self._seconds))
                raise QueueFull(
                    f"{len(self._waiting)} generations wait already; try again in {retry_after} s.",
                    waiting=len(self._waiting),
                    retry_after=retry_after,
                )
            self._jobs[job.id] = job
            self._waiting += (Waiting(job, job.affinity),)
            if self._thread is None:
                self._thread = Thread(target=self._work, name="generation", daemon=True)
                self._thread.start()
            self._changed.notify()
        return job

    def sizes(self) -> tuple[int, int]:
        """How many wait, and how many run: one or none."""
        with self._changed:
            return len(self._waiting), int(self._running is not None)

    def get(self, job_id: str) -> Job:
        with self._changed:
            if (job := self._jobs.get(job_id)) is None:
                raise GenerationNotFound(f"There is no generation “{job_id}”.", generation=job_id)
            return job

    def list(self) -> list[Job]:
        """Newest first."""
        with self._changed:
            return list(reversed(self._jobs.values()))

    def ahead(self, job: Job) -> int | None:
        """How many are before it, the running one included, as things stand; None if it waits no longer."""
        with self._changed:
            place = next((i for i, waiting in enumerate(self._waiting) if waiting.item is job), None)
            return None if place is None else place + (self._running is not None)

    def cancel(self, job_id: str) -> Job:
        """One that waits is gone at once, one that runs within a step. Raises WrongState: it has ended."""
        job = self.get(job_id)
        with self._changed:
            job.cancelling = True
            waited = any(waiting.item is job for waiting in self._waiting)
            self._waiting = tuple(waiting for waiting in self._waiting if waiting.item is not job)
            if not waited and job is not self._running:
                raise WrongState(f"The generation has ended: it is {job.state}.", generation=job.id, state=job.state)
        if waited:
            self._end(job, Cancelled("The generation was cancelled before it began."))
        return job

    def close(self) -> None:
        """What waits is cancelled, what runs stops within a step."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, ()
            if self._running:
                self._running.cancelling = True
            self._changed.notify()
        for entry in waiting:
            self._end(entry.item, Cancelled("The service stopped before the generation began."))
        if self._thread:
            self._thread.join()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job.start()
            self._measures.tell(What.GENERATION_WAITED, (now() - job.created_at).total_seconds())
            try:
                made = self._run(job)
            except Exception as error:  # told to whoever asked for it; the queue goes on
                if not isinstance(error, ModelshelfError):
                    _log.error("generation %s failed", job.id, exc_info=error)
                self._end(job, error)
            else:
                self._seconds = 0.7 * self._seconds + 0.3 * made.timings.get("total", self._seconds)
                self._end(job, made)

    def _next(self) -> Job | None:
        with self._changed:
            self._running = None
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            chosen, self._waiting = take(self._waiting, self._last, self._bound)
            self._last, self._running = chosen.affinity, chosen.item
            return chosen.item

    def _end(self, job: Job, outcome: Generation | Exception) -> None:
        with self._changed:
            if job is self._running:
                self._running = None
        if isinstance(outcome, Exception):
            job.fail(outcome)
        else:
            job.succeed(outcome)
            self._measures.tell(What.PICTURES, len(outcome.pictures))
            for part, seconds in outcome.timings.items():
                self._measures.tell(What.GENERATION_PART, seconds, part)
        self._measures.tell(What.GENERATION_ENDED, label=job.state.value)
        with self._changed:
            ended = [kept for kept in self._jobs.values() if kept.ended]
            nbytes = sum(kept.nbytes for kept in ended)
            for old in ended[:-1]:  # the newest stays, however large
                if nbytes <= KEPT_BYTES and len(self._jobs) <= KEPT_JOBS:
                    break
                nbytes -= old.nbytes
                del self._jobs[old.id]
