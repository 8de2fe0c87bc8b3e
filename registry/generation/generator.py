"""What the API and the command line call to generate."""

from __future__ import annotations

from collections.abc import Callable

from registry.backends import Backend, CheckpointRef
from registry.catalog import Catalog
from registry.compatibility import Fit
from registry.generation.jobs import Generation, Job, Picture
from registry.generation.planning import Planner, Preview
from registry.generation.previewing import Wanted, never
from registry.generation.queue import GenerationQueue
from registry.measures import Measures
from registry.models import Model
from registry.pictures import encode_png
from registry.plans import DEFAULT_LIMITS, Borrowed, GenerationRequest, Limits, Plan


class Generator:
    """`backend` is called for when the first picture is asked for: importing torch takes seconds. `capacity`: how many may wait.
    `current`: see Planner."""

    def __init__(
        self,
        catalog: Catalog,
        backend: Callable[[], Backend],
        capacity: int,
        *,
        limits: Limits = DEFAULT_LIMITS,
        current: Callable[[Model], Model] = lambda model: model,
        measures: Measures | None = None,
    ) -> None:
        self._planner = Planner(catalog, limits, current)
        self._backend = backend
        self.queue = GenerationQueue(self._run, capacity, measures=measures)

    def plan(self, request: GenerationRequest) -> Plan:
        """What would run, without running it."""
        return self._planner.resolve(request)[0]

    def preview(self, request: GenerationRequest) -> Preview:
        """What would run, beside what would if the request stated no values."""
        return self._planner.preview(request)

    def fit(self, adapter: Model, checkpoint: Model) -> Fit:
        return self._planner.fit(adapter, checkpoint)

    def borrowed(self, checkpoint: Model) -> tuple[Borrowed, ...]:
        """What a picture of it would take from other models."""
        return self._planner.borrowed(checkpoint)

    def identity(self, model: Model) -> str:
        """What its weights are known by in the backend's memory."""
        return self._planner.identity(model)

    def reference(self, checkpoint: Model) -> CheckpointRef:
        return self._planner.reference(checkpoint)

    def submit(self, request: GenerationRequest, *, previews: Wanted = never, owner: str = "") -> Job:
        """What can be seen to be wrong with it is raised here and now; QueueFull when too many wait."""
        plan, work, hashes = self._planner.resolve(request)
        return self.queue.submit(Job(plan, work, hashes, previews=previews, owner=owner))

    def close(self) -> None:
        self.queue.close()

    def _run(self, job: Job) -> Generation:
        made = self._backend().generate(job.work, job.step)
        pictures = tuple(
            Picture(encode_png(image, job.plan, seed, job.hashes), seed)
            for image, seed in zip(made.images, made.seeds, strict=True)
        )
        return Generation(job.plan, pictures, made.timings, (*job.plan.warnings, *made.warnings))
