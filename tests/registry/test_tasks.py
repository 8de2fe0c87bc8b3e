"""Upkeep in the background: counted, watched, cancelled with the model it is at."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from threading import Event

import pytest

from registry import tasks
from registry.errors import Cancelled, FileMissing, QueueFull, TaskNotFound, WrongState
from registry.job_states import ENDED, JobState
from registry.models import Model
from registry.tasks import Finding, Kind, Task, Tasks, Wanted

MODELS = [Model(name=f"m{n}", kind="lora", family="sd-1", format="x", path=f"{n}", size=1) for n in range(4)]


def ended(found: Tasks, task: Task) -> Task:
    end = time.monotonic() + 30
    while found.get(task.id).state not in ENDED:
        assert time.monotonic() < end
        time.sleep(0.005)
    return found.get(task.id)


def odd_ones(models: Iterable[Model], _: Wanted) -> Iterator[Finding]:
    for number, model in enumerate(models):
        yield Finding(model.id, model.name, "odd" if number % 2 else "even", notable=bool(number % 2))


def broken(models: Iterable[Model], wanted: Wanted) -> Iterator[Finding]:
    yield next(odd_ones(models, wanted))
    raise FileMissing("it is gone")


def test_every_model_is_counted_and_the_notable_ones_are_named() -> None:
    found = Tasks({Kind.VERIFY: odd_ones})
    done = ended(found, found.submit(Kind.VERIFY, MODELS, 4))
    assert (done.state, done.done, done.total, done.counts) == (JobState.SUCCEEDED, 4, 4, {"even": 2, "odd": 2})
    assert [finding.name for finding in done.findings] == ["m1", "m3"]
    assert found.list() == [done]
    found.close()


def test_one_that_fails_says_why_and_the_next_goes_on() -> None:
    found = Tasks({Kind.VERIFY: broken, Kind.LOAD: odd_ones})
    failing, next_one = found.submit(Kind.VERIFY, MODELS, 4), found.submit(Kind.LOAD, MODELS, 4)
    failed = ended(found, failing)
    assert (failed.state, failed.error and failed.error.code, failed.done) == (JobState.FAILED, "file_not_found", 1)
    assert ended(found, next_one).state is JobState.SUCCEEDED
    found.close()


def test_a_cancelled_one_ends_with_the_model_it_is_at() -> None:
    at_it, go_on = Event(), Event()

    def slow(models: Iterable[Model], wanted: Wanted) -> Iterator[Finding]:
        for finding in odd_ones(models, wanted):
            yield finding
            at_it.set()
            assert go_on.wait(30)

    found = Tasks({Kind.VERIFY: slow, Kind.LOAD: odd_ones})
    task, behind = found.submit(Kind.VERIFY, MODELS, 4), found.submit(Kind.LOAD, MODELS, 4)
    assert at_it.wait(30)
    assert found.cancel(behind.id).state is found.cancel(task.id).state is JobState.CANCELLED
    with pytest.raises(WrongState):
        found.cancel(task.id)
    go_on.set()
    third = found.submit(Kind.LOAD, MODELS, 4)
    assert ended(found, third).state is JobState.SUCCEEDED
    assert (found.get(task.id).done, found.get(behind.id).done) == (1, 0)
    found.close()


def test_what_takes_long_with_one_model_is_told_that_it_is_not_wanted_any_more() -> None:
    at_it = Event()

    def load(models: Iterable[Model], wanted: Wanted) -> Iterator[Finding]:
        yield next(odd_ones(models, wanted))
        at_it.set()
        end = time.monotonic() + 30
        while wanted():
            assert time.monotonic() < end
            time.sleep(0.005)
        raise Cancelled("it is not wanted any more")

    found = Tasks({Kind.LOAD: load, Kind.VERIFY: odd_ones})
    task = found.submit(Kind.LOAD, MODELS, 4)
    assert at_it.wait(30)
    found.cancel(task.id)
    assert ended(found, found.submit(Kind.VERIFY, MODELS, 4)).state is JobState.SUCCEEDED
    assert (found.get(task.id).state, found.get(task.id).done) == (JobState.CANCELLED, 1)
    found.close()


def test_the_oldest_are_forgotten_and_not_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "KEPT", 2)
    gate = Event()

    def gated(models: Iterable[Model], wanted: Wanted) -> Iterator[Finding]:
        assert gate.wait(30)
        yield from odd_ones(models, wanted)

    found = Tasks({Kind.VERIFY: odd_ones, Kind.LOAD: gated})
    first = ended(found, found.submit(Kind.VERIFY, MODELS, 4))
    waiting = [found.submit(Kind.LOAD, MODELS, 4) for _ in range(2)]
    with pytest.raises(TaskNotFound):
        found.get(first.id)
    with pytest.raises(QueueFull):
        found.submit(Kind.VERIFY, MODELS, 4)
    gate.set()
    assert {ended(found, task).state for task in waiting} == {JobState.SUCCEEDED}
    found.close()


def test_a_cancelled_one_that_is_forgotten_while_it_runs_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "KEPT", 1)
    at_it, go_on = Event(), Event()

    def slow(models: Iterable[Model], wanted: Wanted) -> Iterator[Finding]:
        at_it.set()
        assert go_on.wait(30)
        yield from odd_ones(models, wanted)

    found = Tasks({Kind.VERIFY: slow, Kind.LOAD: odd_ones})
    task = found.submit(Kind.VERIFY, MODELS, 4)
    assert at_it.wait(30)
    found.cancel(task.id)
    after = found.submit(Kind.LOAD, MODELS, 4)
    with pytest.raises(TaskNotFound):
        found.get(task.id)
    go_on.set()
    assert ended(found, after).state is JobState.SUCCEEDED
    found.close()
