"""The port's implementation: what a job needs is leased, put on, run and left as it was."""

from __future__ import annotations

from contextlib import ExitStack
from math import lcm
from threading import Lock
from typing import Any

from probes import UnreadableModel, read_header
from registry.backends import AdapterRef, BackendOptions, Generated, GenerationJob, OnStep
from registry.backends.diffusers.devices import Stopwatch, default_budget, find_device, find_dtype, memory_errors
from registry.backends.diffusers.pipeline import Pipeline
from registry.backends.diffusers.sampling import build_scheduler, sample
from registry.compatibility import check_fit
from registry.errors import FileMissing, IncompatibleAdapter, InvalidRequest, UnusableFile
from registry.weights.adapters import Factors, load_factors
from registry.weights.bundle import Bundle, bundle_bytes, load_bundle
from registry.weights.residency import Residency

BATCH = 4
"""Pictures in one denoising pass when nobody says otherwise: a GPU gains most of what it can gain by then (SDXL at 8: a quarter)."""


class DiffusersBackend:
    """Every pipeline of `registry.pipeline_config.LAYOUTS` on one device. See `registry.backends.Backend`.

    `device`: `auto` (CUDA, else Apple's MPS, else the CPU) or torch's name of one. `dtype`: `auto` (float16 on CUDA, else
    float32) or torch's name. `budget_bytes`: for resident checkpoints and adapters; None: half of the memory of a machine, 80 % of
    that of a GPU. `batch`: the most pictures in one pass; 1 makes each picture bit for bit the one that its seed gives alone.
    """

    def __init__(self, options: BackendOptions | None = None) -> None:
        options = options or BackendOptions()
        self.device = find_device(options.device)
        self.dtype = find_dtype(options.dtype, self.device)
        self.batch = options.batch or BATCH
        self.residency = Residency(
            default_budget(self.device) if options.budget_bytes is None else options.budget_bytes
        )
        self._running = Lock()  # one generation at a time: a pipeline wears one overlay, a device serves one caller

    def generate(self, job: GenerationJob, on_step: OnStep | None = None) -> Generated:
        """See `registry.backends.Backend.generate`. Loading goes on beside another job's generation."""
        _check(job)
        scheduler, warnings = build_scheduler(job)
        clock = Stopwatch(self.device)
        with memory_errors(), ExitStack() as leases:
            pipeline = leases.enter_context(self._pipeline(job))
            clock.lap("load")
            worn = [(self._key(adapter, pipeline.bundle), adapter) for adapter in job.adapters if adapter.weight != 0]
            factors = [leases.enter_context(self._factors(key, adapter, pipeline.bundle)) for key, adapter in worn]
            clock.lap("adapters")
            leases.enter_context(self._running)
            clock.lap("wait")
            pipeline.wear([(key, adapter.weight) for key, adapter in worn], factors)
            clock.lap("adapters")
            images, more = sample(pipeline, job, scheduler, self.batch, on_step, clock)
        seeds = tuple(range(job.seed, job.seed + job.n))
        return Generated(images, seeds, clock.seconds(), (*warnings, *more))

    def _pipeline(self, job: GenerationJob) -> Any:
        checkpoint = job.checkpoint
        return self.residency.lease(
            f"{checkpoint.digest}:{checkpoint.config.key}",
            lambda: bundle_bytes(checkpoint.path, self.dtype),
            lambda: Pipeline(
                load_bundle(checkpoint.path, checkpoint.digest, self.device, self.dtype), checkpoint.config
            ),
        )

    @staticmethod
    def _key(adapter: AdapterRef, bundle: Bundle) -> str:
        """What a LoRA's tensors mean depends on the base's names: factors are shared by bases of one structure."""
        return f"{adapter.digest}:{bundle.structure}"

    def _factors(self, key: str, adapter: AdapterRef, bundle: Bundle) -> Any:
        def load() -> Factors:
            try:
                fit = check_fit(read_header(adapter.path), bundle.specs)
            except UnreadableModel as error:
                raise UnusableFile(f"{adapter.name}: {error}", reason=error.code) from error
            if not fit.fits:
                raise IncompatibleAdapter(
                    f"{adapter.name} does not fit this checkpoint: {fit.reason}.",
                    adapter=adapter.name,
                    problems=[str(problem) for problem in fit.problems],
                )
            return load_factors(adapter.path, bundle.tensors.keys(), self.device)

        def size() -> int:
            try:
                return adapter.path.stat().st_size
            except FileNotFoundError:
                raise FileMissing(
                    f"The file of {adapter.name} is gone: {adapter.path}.", path=str(adapter.path)
                ) from None

        return self.residency.lease(key, size, load)


def _check(job: GenerationJob) -> None:
    unit = lcm(8, job.checkpoint.config.pixel_unit)
    for side in ("width", "height"):
        pixels = getattr(job, side)
        if pixels < unit or pixels % unit:
            raise InvalidRequest(f"{side} must be a multiple of {unit} pixels, not {pixels}.", field=side)
    for field, value in (("steps", job.steps), ("n", job.n)):
        if value < 1:
            raise InvalidRequest(f"{field} must be at least 1, not {value}.", field=field)
    if not 0 <= job.seed <= 2**63 - job.n:
        raise InvalidRequest(f"seed must be from 0 to {2**63 - job.n}, not {job.seed}.", field="seed")
