"""A backend as a third party would write one: no torch, one colour. What it does can be told through the prompt."""

from __future__ import annotations

import sys
import time
from itertools import count
from threading import Event, Semaphore

from PIL import Image

from registry.backends import BackendOptions, Generated, GenerationJob, OnStep, Step
from registry.errors import OutOfMemory


class Painter:
    """Paints `n` pictures of a colour that the seed decides, in `steps` steps. A prompt with `fail` or `crash` fails at the second step,
    one with `slow` takes 50 ms a step, one with `endless` never comes to its last.

    With `gate` every step waits until the test lets it go on; `seen` are the jobs, in the order in which they began.
    """

    def __init__(self, options: BackendOptions, *, gate: Semaphore | None = None) -> None:
        self.options = options
        self.gate = gate
        self.began = Event()
        self.seen: list[GenerationJob] = []

    def generate(self, job: GenerationJob, on_step: OnStep | None = None) -> Generated:
        self.seen.append(job)
        self.began.set()
        endless = "endless" in job.prompt
        for number in count(1) if endless else range(1, job.steps + 1):
            step = min(number, job.steps - 1) if endless else number
            if self.gate is not None:
                assert self.gate.acquire(timeout=30)
            if "slow" in job.prompt or endless:
                time.sleep(0.05)
            if step == 2 and "fail" in job.prompt:
                raise OutOfMemory("Too little memory to paint this.")
            if step == 2 and "crash" in job.prompt:
                raise ZeroDivisionError("a bug of the painter")
            if on_step:
                on_step(Step(step, job.steps, lambda: tuple(self._paint(seed, (2, 2)) for seed in self._seeds(job))))
        images = tuple(self._paint(seed, (job.width, job.height)) for seed in self._seeds(job))
        if job.image is not None:
            images = tuple(Image.blend(job.image.resize(image.size), image, job.strength) for image in images)
        with_torch = "with" if "torch" in sys.modules else "without"
        return Generated(images, self._seeds(job), {"total": 0.01}, (f"painted {with_torch} torch",))

    @staticmethod
    def _seeds(job: GenerationJob) -> tuple[int, ...]:
        return tuple(range(job.seed, job.seed + job.n))

    @staticmethod
    def _paint(seed: int, size: tuple[int, int]) -> Image.Image:
        return Image.new("RGB", size, (seed % 256, seed // 256 % 256, 128))
