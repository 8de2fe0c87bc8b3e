"""The queue of one device: one generation after the other.

One that is cancelled before its first step still loads until that can be given up. Nobody waits for that: another thread goes on with the
next, which has its own to load; where both need the device, the backend makes one wait.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from threading import Condition, Thread

from registry.errors import Cancelled, GenerationNotFound, ModelshelfError, QueueFull, WrongState
from registry.generation.jobs import Generation, Job
from registry.generation.scheduling import Affinity, Waiting, take
from registry.holders import let_go
from registry.measures import Measures, What
from registry.tables import now

MAX_OVERTAKEN = 64
"""How many that came later may go before one that waits. Of 200 requests for 20 LoRA sets, shuffled, 64 waiting at a time, it changes sets
41 times; at 16 it would be 91 times, first come first served 190."""
KEPT_BYTES = 256 * 2**20
"""Of pictures of ended generations, which are kept to be fetched; then the oldest are forgotten."""
KEPT_JOBS = 1000
MAX_THREADS = 4
"""One that runs, the others with what was cancelled and cannot be left yet."""
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
        self._threads: list[Thread] = []
        self._idle = 0  # threads

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
            self._call_thread()
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
        """At once; what runs for it ends within a step, or a tensor where it still loads. Raises WrongState: it has ended."""
        job = self.get(job_id)
        with self._changed:
            waited = any(waiting.item is job for waiting in self._waiting)
            self._waiting = tuple(waiting for waiting in self._waiting if waiting.item is not job)
        before = " before it began" if waited else ""
        if not self._end(job, Cancelled(f"The generation was cancelled{before}.")):
            raise WrongState(f"The generation has ended: it is {job.state}.", generation=job.id, state=job.state)
        with self._changed:
            if job is self._running and not job.total:
                self._running = None
                self._call_thread()
        return job

    def close(self) -> None:
        """All are cancelled; returns when nothing runs for them any more."""
        with self._changed:
            self._closed = True
            entries, self._waiting = [entry.item for entry in self._waiting], ()
            entries += [self._running] if self._running else []
            self._changed.notify_all()
        for job in entries:
            self._end(job, Cancelled("The service stopped before the generation had ended."))
        for thread in self._threads:
            thread.join()

    def _call_thread(self) -> None:
        """For what waits, if anything may run now."""
        if not self._idle and len(self._threads) < MAX_THREADS and self._running is None and self._waiting:
            self._idle += 1
            self._threads.append(Thread(target=self._work, name="generation", daemon=True))
            self._threads[-1].start()
        self._changed.notify_all()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if job.start():
                self._measures.tell(What.GENERATION_WAITED, (now() - job.created_at).total_seconds())
                self._end(job, self._outcome(job))
            with self._changed:
                self._idle += 1
                if job is self._running:
                    self._running = None
                    self._changed.notify_all()
            del job  # which would be kept until there is another

    def _outcome(self, job: Job) -> Generation | Exception:
        try:
            return self._run(job)
        except Exception as error:  # told to whoever asked for it; the queue goes on
            if not isinstance(error, ModelshelfError):
                _log.error("generation %s failed", job.id, exc_info=error)
            let_go(error)
            return error

    def _next(self) -> Job | None:
        with self._changed:
            while (self._running is not None or not self._waiting) and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            self._idle -= 1
            chosen, self._waiting = take(self._waiting, self._last, self._bound)
            self._last, self._running = chosen.affinity, chosen.item
            return chosen.item

    def _end(self, job: Job, outcome: Generation | Exception) -> bool:
        """False: it has ended before, and this comes of what nobody waits for any more."""
        if isinstance(outcome, Exception):
            if not job.fail(outcome):
                return False
        else:
            if not job.succeed(outcome):
                return False
            self._seconds = 0.7 * self._seconds + 0.3 * outcome.timings.get("total", self._seconds)
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
        return True
