"""Generations as jobs: watched step by step, cancelled within one, apart from each other."""

from __future__ import annotations

import base64
import io
from threading import Event as Flag
from threading import Semaphore
from typing import Any

import pytest
from PIL import Image

from registry.backends import Step
from registry.errors import Cancelled, GenerationNotFound, InvalidRequest, OutOfMemory, QueueFull, WrongState
from registry.generation import Generator, Job, JobState, queue
from registry.generation.previewing import Wanted, evenly, never, throttled
from registry.plans import AdapterRequest, GenerationRequest
from tests.registry.backends.painter import Painter

WAIT = 30  # seconds, for what should take none


def ask(generator: Generator, prompt: str = "a cat", *, previews: Wanted = never, **more: Any) -> Job:
    request = GenerationRequest(**{"checkpoint": "tiny", "prompt": prompt, "steps": 3, "seed": 5, **more})
    return generator.submit(request, previews=previews)


def after(job: Job, name: str, count: int = 1) -> None:
    """Waits until the job has told `count` events of that name."""
    happened = Flag()

    def look() -> None:
        if sum(event.name == name for event in job.events()) >= count:
            happened.set()

    stop = job.listen(look)
    look()
    assert happened.wait(WAIT), [event.name for event in job.events()]
    stop()


def names(job: Job) -> list[str]:
    return [event.name for event in job.events()]


def test_a_job_s_life(generator: Generator, gate: Semaphore) -> None:
    job = ask(generator, n=2)
    after(job, "running")
    assert (job.state, job.done, job.result) == (JobState.RUNNING, 0, None)
    gate.release()
    after(job, "step")
    assert (job.done, job.total) == (1, 3)
    gate.release(2)
    made = job.wait(WAIT)
    assert job.state is JobState.SUCCEEDED
    assert names(job) == ["queued", "running", "step", "step", "step", "succeeded"]
    assert [event.number for event in job.events()] == [1, 2, 3, 4, 5, 6]
    assert [event.data["done"] for event in job.events(2)[:3]] == [1, 2, 3]
    assert [picture.seed for picture in made.pictures] == [5, 6]
    assert Image.open(io.BytesIO(made.pictures[1].png)).getpixel((0, 0)) == (6, 0, 128)
    assert made.warnings[0].startswith("painted")
    assert generator.queue.get(job.id) is job


@pytest.mark.parametrize(
    ("wanted", "steps", "shown"),
    [(never, 6, []), (evenly(2), 6, [2, 4]), (evenly(3), 2, [1]), (evenly(0), 6, []), (throttled(3600), 6, [1])],
)
def test_when_a_preview_is_due(wanted: Wanted, steps: int, shown: list[int]) -> None:
    assert [done for done in range(1, steps) if wanted(Step(done, steps, tuple))] == shown


def test_previews_come_only_when_asked_for_and_only_the_newest_is_kept(generator: Generator, gate: Semaphore) -> None:
    job = ask(generator, previews=throttled(0), steps=4, n=2)
    for step in (1, 2, 3):
        gate.release()
        after(job, "step", step)
    after(job, "preview")
    shown = [event for event in job.events() if event.name == "preview"]
    assert [event.data["done"] for event in shown][-1:] == [3] or len(shown) == 1
    images = [Image.open(io.BytesIO(base64.b64decode(text))) for text in shown[-1].data["images"]]
    assert [image.size for image in images] == [(2, 2), (2, 2)]
    gate.release()
    job.wait(WAIT)
    assert "preview" not in names(job)
    assert [event.number for event in job.events()] == sorted({event.number for event in job.events()})
    gate.release(3)
    silent = ask(generator)
    silent.wait(WAIT)
    assert "preview" not in names(silent)


def test_cancelled_while_it_runs_it_stops_within_a_step(
    generator: Generator, gate: Semaphore, painter: Painter
) -> None:
    job = ask(generator, steps=50)
    gate.release()
    after(job, "step")
    generator.queue.cancel(job.id)
    gate.release()
    with pytest.raises(Cancelled):
        job.wait(WAIT)
    assert (job.state, job.done) == (JobState.CANCELLED, 1)
    assert names(job)[-1] == "cancelled"
    with pytest.raises(WrongState, match="cancelled"):
        generator.queue.cancel(job.id)
    gate.release(3)
    assert ask(generator).wait(WAIT).pictures


def test_cancelled_before_its_first_step_it_holds_up_as_many_as_there_are_threads(
    generator: Generator, gate: Semaphore, painter: Painter
) -> None:
    """The painter stands for a backend that loads: nothing is given up before the gate lets it."""
    for number in range(1, queue.MAX_THREADS + 1):
        loading = ask(generator, f"{number}")
        after(loading, "running")
        generator.queue.cancel(loading.id)
        assert (loading.state, names(loading)[-1]) == (JobState.CANCELLED, "cancelled")
    last = ask(generator, "last")
    assert generator.queue.sizes() == (1, 0)
    gate.release(queue.MAX_THREADS + 3)
    assert last.wait(WAIT).pictures
    assert [job.prompt for job in painter.seen] == ["1", "2", "3", "4", "last"]


def test_cancelled_while_it_waits_it_never_runs(generator: Generator, gate: Semaphore, painter: Painter) -> None:
    first, second, third = ask(generator), ask(generator, "second"), ask(generator, "third")
    after(first, "running")
    assert [generator.queue.ahead(job) for job in (first, second, third)] == [None, 1, 2]
    generator.queue.cancel(second.id)
    assert second.state is JobState.CANCELLED
    assert generator.queue.ahead(third) == 1
    gate.release(6)
    third.wait(WAIT)
    assert [job.prompt for job in painter.seen] == ["a cat", "third"]


@pytest.mark.parametrize(
    ("prompt", "error", "code"), [("fail", OutOfMemory, "out_of_memory"), ("crash", ZeroDivisionError, "error")]
)
def test_a_failure_harms_no_other(
    generator: Generator, gate: Semaphore, prompt: str, error: type[Exception], code: str
) -> None:
    gate.release(100)
    before, broken, later = ask(generator), ask(generator, prompt), ask(generator)
    with pytest.raises(error):
        broken.wait(WAIT)
    assert (broken.state, broken.result) == (JobState.FAILED, None)
    assert broken.error is not None
    assert broken.error.code == code
    assert broken.events()[-1].data["code"] == code
    assert before.wait(WAIT).pictures == later.wait(WAIT).pictures


def test_what_can_be_seen_to_be_wrong_never_becomes_a_job(generator: Generator) -> None:
    with pytest.raises(InvalidRequest):
        ask(generator, steps=0)
    assert generator.queue.list() == []


def test_beyond_its_capacity_the_queue_says_when_to_come_back(generator: Generator, gate: Semaphore) -> None:
    running = ask(generator)
    after(running, "running")
    waiting = [ask(generator, f"{i}") for i in range(6)]
    with pytest.raises(QueueFull) as caught:
        ask(generator, "one too many")
    assert caught.value.detail["waiting"] == 6
    assert caught.value.detail["retry_after"] >= 1
    generator.queue.cancel(waiting[0].id)
    ask(generator, "there is room again")


def test_like_follows_like(generator: Generator, gate: Semaphore, painter: Painter) -> None:
    style, line = (AdapterRequest("style", 1.0),), (AdapterRequest("line", 1.0),)
    first = ask(generator, loras=style)
    after(first, "running")
    order = [line, style, (), (AdapterRequest("style", 0.5),), style]
    waiting = [ask(generator, f"{i}", loras=loras) for i, loras in enumerate(order)]
    gate.release(100)
    for job in waiting:
        job.wait(WAIT)
    assert [job.prompt for job in painter.seen[1:]] == ["1", "4", "3", "0", "2"]


def test_ended_generations_are_kept_until_their_pictures_are_too_many(
    generator: Generator, gate: Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.release(100)
    old = ask(generator)
    size = len(old.wait(WAIT).pictures[0].png)
    monkeypatch.setattr(queue, "KEPT_BYTES", 2 * size + size // 2)
    for _ in range(3):
        newest = ask(generator)
        newest.wait(WAIT)
    ask(generator).wait(WAIT)  # the one before has been put away by now
    with pytest.raises(GenerationNotFound):
        generator.queue.get(old.id)
    assert generator.queue.get(newest.id) is newest


def test_closing_ends_what_runs_and_what_waits(generator: Generator, gate: Semaphore) -> None:
    running, waiting = ask(generator, steps=50), ask(generator)
    after(running, "running")
    gate.release()
    after(running, "step")
    gate.release(50)
    generator.close()
    assert running.ended
    assert waiting.state is JobState.CANCELLED
    with pytest.raises(Cancelled):
        ask(generator)
