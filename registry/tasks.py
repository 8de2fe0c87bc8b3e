"""Upkeep over many models, in the background of a service: verified, looked up on the Hub, brought up to date, loaded. One after the other.

What a task has found is kept in memory, as the task is: models and installs themselves are in the database.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, NamedTuple

from registry.errors import Cancelled, ModelshelfError, QueueFull, TaskNotFound, WrongState
from registry.job_states import ENDED, JobState
from registry.models import Model, new_id
from registry.tables import now

KEPT = 100  # tasks
MOST_FINDINGS = 1000  # of one task; the counts go on
CLOSE_SECONDS = 5.0  # that a stopping service waits for the model that is being looked at

_log = logging.getLogger(__name__)


class Kind(StrEnum):
    VERIFY = "verify"  # reads every byte again
    HASH = "hash"  # what has no digests yet
    CHECK_UPDATES = "check-updates"  # asks the Hub; nothing is downloaded
    UPDATE = "update"  # installs what is newer there
    LOAD = "load"  # checkpoints, into memory


class Finding(NamedTuple):
    """What became of one model. `notable`: worth naming, beside being counted."""

    model_id: str
    name: str
    outcome: str
    reason: str = ""
    notable: bool = True


Wanted = Callable[[], bool]
"""False once the task has been cancelled."""
Work = Callable[[Iterable[Model], Wanted], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Task:
    """As it stands. `done` of `total` models; `counts`: outcome -> models."""

    kind: Kind
    total: int
    id: str = field(default_factory=new_id)
    state: JobState = JobState.QUEUED
    done: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    error: ModelshelfError | None = None
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)


class Tasks:
    """`works`: what each kind does with models."""

    def __init__(self, works: Mapping[Kind, Work]) -> None:
        self._works = works
        self._lock = Lock()
        self._tasks: OrderedDict[str, Task] = OrderedDict()  # oldest first
        self._queue: SimpleQueue[tuple[str, Iterable[Model]] | None] = SimpleQueue()
        self._thread: Thread | None = None

    def submit(self, kind: Kind, models: Iterable[Model], total: int) -> Task:
        """Raises QueueFull."""
        task = Task(kind, total)
        with self._lock:
            waiting = sum(known.state not in ENDED for known in self._tasks.values())
            if waiting >= KEPT:
                raise QueueFull(f"{waiting} tasks wait already.", waiting=waiting, retry_after=60)
            self._tasks[task.id] = task
            for old in [t.id for t in self._tasks.values() if t.state in ENDED][: max(0, len(self._tasks) - KEPT)]:
                del self._tasks[old]
            if self._thread is None:
                self._thread = Thread(target=self._work, name="tasks", daemon=True)
                self._thread.start()
        self._queue.put((task.id, models))
        return task

    def get(self, task_id: str) -> Task:
        with self._lock:
            return self._known(task_id)

    def list(self) -> list[Task]:
        """Newest first."""
        with self._lock:
            return list(reversed(self._tasks.values()))

    def cancel(self, task_id: str) -> Task:
        """It ends with the model that it is at, or the tensor of one that it loads; what it has found stays.

        Raises TaskNotFound, WrongState: it has ended.
        """
        self.get(task_id)
        return self._move(task_id, (JobState.QUEUED, JobState.RUNNING), state=JobState.CANCELLED, error=_cancelled())

    def close(self) -> None:
        for task in self.list():
            if task.state not in ENDED:
                self._move(task.id, (task.state,), state=JobState.CANCELLED, error=_cancelled())
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        while (asked := self._queue.get()) is not None:
            try:
                self._run(*asked)
            except (WrongState, TaskNotFound):
                """It was cancelled, which is on record, or has been forgotten with time."""

    def _run(self, task_id: str, models: Iterable[Model]) -> None:
        task = self._move(task_id, (JobState.QUEUED,), state=JobState.RUNNING)
        try:
            for finding in self._works[task.kind](models, partial(self._wanted, task_id)):
                counts = {**task.counts, finding.outcome: task.counts.get(finding.outcome, 0) + 1}
                named = finding.notable and len(task.findings) < MOST_FINDINGS
                findings = (*task.findings, finding) if named else task.findings
                task = self._move(task_id, (JobState.RUNNING,), done=task.done + 1, counts=counts, findings=findings)
        except (WrongState, TaskNotFound):
            raise
        except Exception as error:
            if not isinstance(error, ModelshelfError):
                _log.error("task %s failed", task_id, exc_info=error)
                error = ModelshelfError(f"An error of modelshelf itself: {type(error).__name__}: {error}")
            self._move(task_id, (JobState.RUNNING,), state=JobState.FAILED, error=error)
        else:
            self._move(task_id, (JobState.RUNNING,), state=JobState.SUCCEEDED)

    def _wanted(self, task_id: str) -> bool:
        task = self._tasks.get(task_id)  # one that was cancelled may be forgotten already
        return task is not None and task.state not in ENDED

    def _move(self, task_id: str, since: tuple[JobState, ...], **changes: Any) -> Task:
        """Raises TaskNotFound, WrongState: it is in none of `since`."""
        with self._lock:
            task = self._known(task_id)
            if task.state not in since:
                raise WrongState(f"The task is {task.state}.", task=task_id, state=task.state)
            changed = self._tasks[task_id] = replace(task, updated_at=now(), **changes)
            return changed

    def _known(self, task_id: str) -> Task:
        if (task := self._tasks.get(task_id)) is None:
            raise TaskNotFound(f"There is no task “{task_id}”.", task=task_id)
        return task


def _cancelled() -> Cancelled:
    return Cancelled("The task was cancelled; what it has found stays.")
