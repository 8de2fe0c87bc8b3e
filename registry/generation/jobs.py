"""A generation as everybody sees it: its state, its progress, its events, its pictures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock
from typing import Any

from registry.backends import GenerationJob, Step
from registry.errors import Cancelled, ModelshelfError
from registry.generation.previewing import Wanted, never
from registry.generation.scheduling import Affinity
from registry.holders import Holder
from registry.job_states import ENDED, JobState
from registry.models import new_id
from registry.pictures import png_bytes
from registry.plans import Plan
from registry.tables import now


@dataclass(frozen=True, slots=True)
class Picture:
    png: bytes
    seed: int


@dataclass(frozen=True, slots=True)
class Generation:
    """`timings` in seconds, by part of the work. `warnings`: the plan's, and what the backend found on its way."""

    plan: Plan
    pictures: tuple[Picture, ...]
    timings: Mapping[str, float]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job. `number` counts from 1; `name` is a JobState, `waiting`, `step` or `preview`; `data` is
    JSON-ready."""

    number: int
    name: str
    data: Mapping[str, Any]


class Job:
    """One generation, from the moment it is asked for. Callable from any thread; only the queue moves it on.

    `work` is what the backend gets, `hashes` what the pictures will say about the models, `previews` when to show the picture in the
    making, `owner` whoever asked for it, as the API names its callers.
    """

    def __init__(
        self,
        plan: Plan,
        work: GenerationJob,
        hashes: Mapping[str, str],
        *,
        previews: Wanted = never,
        owner: str = "",
    ) -> None:
        self.id = new_id()
        self.owner = owner
        self.plan = plan
        self.work = replace(work, holder=Holder(f"generation {self.id}", lambda: not self.ended, self._waits))
        self.hashes = hashes
        self.created_at: datetime = now()
        self.done, self.total = 0, 0
        self._waits_for = ""
        self._previews = previews
        self._lock = Lock()
        self._state = JobState.QUEUED
        self._error: ModelshelfError | None = None
        self._result: Generation | None = None
        self._events: list[Event] = []
        self._count = 0
        self._listeners: list[Callable[[], object]] = []
        self._outcome: Future[Generation] = Future()
        self._tell(JobState.QUEUED, {})

    @property
    def affinity(self) -> Affinity:
        """What must be in place for it, as `scheduling.take` compares it."""
        strengths = (
            (a.digest, a.weight, a.weight if a.text_weight is None else a.text_weight) for a in self.work.adapters
        )
        worn = sorted(strength for strength in strengths if any(strength[1:]))
        checkpoint = self.work.checkpoint
        return ((checkpoint.weights, checkpoint.config.key), tuple(digest for digest, *_ in worn), tuple(worn))

    @property
    def state(self) -> JobState:
        return self._state

    @property
    def ended(self) -> bool:
        return self._state in ENDED

    @property
    def waits_for(self) -> str | None:
        """What it has to wait for before it goes on, while it runs."""
        return None if self.ended else self._waits_for or None

    @property
    def error(self) -> ModelshelfError | None:
        """Why it failed or was cancelled."""
        return self._error

    @property
    def result(self) -> Generation | None:
        """What came of it; None unless it succeeded."""
        return self._result

    @property
    def nbytes(self) -> int:
        """Of its pictures."""
        made = self.result
        return sum(len(picture.png) for picture in made.pictures) if made else 0

    def wait(self, timeout: float | None = None) -> Generation:
        """Until it has ended. Raises what it failed with, Cancelled, or TimeoutError after `timeout` seconds."""
        return self._outcome.result(timeout)

    def events(self, after: int = 0) -> list[Event]:
        """Those with a number above `after`; of the previews only the newest is kept, and none once the job has ended."""
        with self._lock:
            return [event for event in self._events if event.number > after]

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """`listener` is called, from another thread, after every event. Returns what stops that."""
        with self._lock:
            self._listeners.append(listener)

        def stop() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return stop

    # -- for the queue
    def start(self) -> bool:
        """False: it was cancelled just before."""
        return self._tell(JobState.RUNNING, {}, JobState.RUNNING)

    def step(self, step: Step) -> None:
        """Raises Cancelled, when it has been."""
        self.work.holder.go_on()
        self.done, self.total = step.done, step.total
        self._tell("step", {"done": step.done, "total": step.total})
        if step.done < step.total and self._previews(step):
            images = [b64encode(png_bytes(image)).decode() for image in step.preview()]
            self._tell("preview", {"done": step.done, "total": step.total, "images": images})

    def succeed(self, made: Generation) -> bool:
        """False: it had ended already, as after `fail`."""
        data = {"timings": dict(made.timings), "warnings": list(made.warnings)}
        if not self._tell(JobState.SUCCEEDED, data, JobState.SUCCEEDED, result=made):
            return False
        self._outcome.set_result(made)
        return True

    def fail(self, error: Exception) -> bool:
        """Anything but Cancelled is a failure; what is no error of modelshelf's tree is told by its class and text."""
        told = error if isinstance(error, ModelshelfError) else ModelshelfError(f"{type(error).__name__}: {error}")
        state = JobState.CANCELLED if isinstance(error, Cancelled) else JobState.FAILED
        data = {"code": told.code, "message": told.message, "detail": told.detail}
        if not self._tell(state, data, state, error=told):
            return False
        self._outcome.set_exception(error)
        return True

    def _waits(self, reason: str) -> None:
        self._waits_for = reason
        self._tell("waiting", {"for": reason or None})

    def _tell(
        self,
        name: str,
        data: Mapping[str, Any],
        state: JobState | None = None,
        *,
        result: Generation | None = None,
        error: ModelshelfError | None = None,
    ) -> bool:
        """False: the job has ended, and nothing happens to it any more."""
        with self._lock:
            if self.ended:
                return False
            if state is not None:  # with its event in one go: whoever sees that the job has ended finds its last event
                self._state, self._result, self._error = state, result, error
            if name == "preview" or self.ended:
                self._events = [event for event in self._events if event.name != "preview"]
            self._count += 1
            self._events.append(Event(self._count, str(name), data))
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()
        return True
