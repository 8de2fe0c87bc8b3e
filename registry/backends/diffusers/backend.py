"""The port's implementation: what a job needs is leased, put on, run and left as it was."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from math import lcm
from threading import Lock
from typing import Any, TypeVar

import torch

from probes import UnreadableModel, read_header
from registry.backends import (
    AdapterRef,
    BackendOptions,
    CheckpointRef,
    Generated,
    GenerationJob,
    OnStep,
    Resident,
    Residents,
    Tier,
)
from registry.backends.diffusers.families import KINDS
from registry.backends.diffusers.pipeline import Pipeline
from registry.backends.diffusers.sampling import build_scheduler, sample
from registry.backends.machine import (
    Stopwatch,
    default_budget,
    default_host_budget,
    memory_errors,
    torch_compiler,
    torch_device,
    torch_dtype,
)
from registry.compatibility import check_fit
from registry.errors import FileMissing, IncompatibleAdapter, InvalidRequest, NotResident, OutOfMemory, UnusableFile
from registry.holders import Holder, locked
from registry.weights.adapters import Factors, Strength, load_factors
from registry.weights.bundle import Bundle, bundle_bytes, load_bundle
from registry.weights.residency import Residency

T = TypeVar("T")

BATCH = 4
"""Pictures in one denoising pass when nobody says otherwise: a GPU gains most of what it can gain by then (SDXL at 8: a quarter)."""

_log = logging.getLogger(__name__)

NAMED_PROBLEMS = 100
"""How many tensors that do not fit an error lists; it counts them all."""

UNMERGED = "The LoRAs ran beside the model, unmerged: merged they would not have had room in memory."


class DiffusersBackend:
    """Every pipeline of `registry.pipeline_config.LAYOUTS` on one device. See `registry.backends.Backend` and `Keeper`.

    Of the options, `device` `auto` is CUDA, else Apple's MPS, else the CPU; `dtype` `auto` float16 on CUDA, else float32.
    `budget_bytes`, for resident checkpoints, what they wear, and adapters, is unset half of the memory of a machine, 80 % of that of a
    GPU; `host_bytes`, for checkpoints that had to leave the device, a quarter of the machine's memory beside a GPU, else nothing, since
    on a CPU the mapped files are already there; `keep_alive` until room is needed; `batch` is BATCH, and at 1 each picture is bit for
    bit the one that its seed gives alone.
    """

    def __init__(self, options: BackendOptions | None = None) -> None:
        options = options or BackendOptions()
        self.device = torch_device(options.device)
        self.dtype = torch_dtype(options.dtype, self.device)
        self.batch = options.batch or BATCH
        self.compiler = torch_compiler(options.compile)
        budget = default_budget(self.device) if options.budget_bytes is None else options.budget_bytes
        self.residency = Residency(budget, keep_alive=options.keep_alive, evicted=self._demote, release=_release)
        self.host = Residency(default_host_budget(self.device) if options.host_bytes is None else options.host_bytes)
        self._running = Lock()  # one generation at a time: a pipeline wears one overlay, a device serves one caller

    def generate(self, job: GenerationJob, on_step: OnStep | None = None) -> Generated:
        """See `registry.backends.Backend.generate`. Loading goes on beside another job's generation."""
        _check(job)
        scheduler, warnings = build_scheduler(job)
        clock = Stopwatch(self.device)
        with ExitStack() as leases:
            pipeline = leases.enter_context(self._pipeline(job.checkpoint, job.holder))
            clock.lap("load")
            worn = {
                self._key(adapter, pipeline.bundle): (
                    leases.enter_context(self._factors(adapter, pipeline.bundle, job.holder)),
                    strength,
                )
                for adapter in job.adapters
                if not (strength := _strength(adapter)).off
            }
            clock.lap("adapters")
            leases.enter_context(self._device(job.holder))
            clock.lap("wait")
            warnings += self._wear(job, pipeline, worn)
            clock.lap("adapters")
            images, more = self._drawn(
                job,
                pipeline,
                worn,
                lambda: sample(pipeline, job, scheduler, self.batch, on_step, clock, job.holder.go_on),
            )
        seeds = tuple(range(job.seed, job.seed + job.n))
        return Generated(images, seeds, clock.seconds(), (*warnings, *more))

    def residents(self) -> Residents:
        tiers = [("device", str(self.device), self.residency)]
        if self.host.budget:
            tiers.append(("host", "cpu", self.host))
        entries = [(name, tier.entries()) for name, _, tier in tiers]
        return Residents(
            tuple(
                Tier(name, device, tier.budget, sum(entry.nbytes for entry in found))
                for (name, device, tier), (_, found) in zip(tiers, entries, strict=True)
            ),
            tuple(
                Resident(name, entry.key.partition(":")[0], entry.label, entry.nbytes, entry.holders, entry.idle)
                for name, found in entries
                for entry in found
            ),
        )

    def load(self, checkpoint: CheckpointRef, holder: Holder) -> None:
        with self._pipeline(checkpoint, holder):
            pass

    def evict(self, digest: str) -> None:
        found = False
        for tier in (self.residency, self.host):  # in this order: what leaves the device may go to the host
            for entry in tier.entries():
                if entry.key.startswith(f"{digest}:"):
                    found = True
                    tier.evict(entry.key)
        if not found:
            raise NotResident("It is not in memory.", digest=digest)

    @staticmethod
    def _checkpoint_key(checkpoint: CheckpointRef) -> str:
        return f"{checkpoint.weights}:{checkpoint.config.key}"

    @contextmanager
    def _device(self, holder: Holder) -> Iterator[None]:
        with ExitStack() as lock:
            with self.residency.stuck(holder):
                lock.enter_context(locked(self._running, holder.go_on))
            holder.go_on()
            yield

    @contextmanager
    def _pipeline(self, checkpoint: CheckpointRef, holder: Holder) -> Iterator[Pipeline]:
        key = self._checkpoint_key(checkpoint)

        def go_on() -> None:
            self.residency.go_on(key)

        precise = KINDS[checkpoint.config.pipeline].precise(self.dtype)
        with ExitStack() as lease:
            # held before room is made: what has to leave the device must not drive it out of the host
            with self.host.lease_resident(checkpoint.weights, holder=holder) as kept:

                def load() -> Pipeline:
                    bundle = (
                        kept.to(self.device, go_on=go_on)
                        if kept
                        else load_bundle(
                            checkpoint.path,
                            checkpoint.weights,
                            self.device,
                            self.dtype,
                            mapped=checkpoint.managed,
                            precise=precise,
                            go_on=go_on,
                            lent=checkpoint.lent,
                        )
                    )
                    return Pipeline(bundle, checkpoint.config, self.compiler, go_on)

                pipeline = lease.enter_context(
                    self.residency.lease(
                        key,
                        lambda: bundle_bytes(checkpoint.path, self.dtype, precise, checkpoint.lent),
                        lambda: self._with_room(load),
                        holder=holder,
                        label=checkpoint.name or checkpoint.path.name,
                    )
                )
            yield pipeline

    def _demote(self, key: str, value: Any) -> None:
        """A checkpoint that leaves the device goes to the host, if there is a host tier. Whoever needs its room on the device is not
        concerned if that fails: the file is read again, then."""
        if not isinstance(value, Pipeline) or not self.host.budget:
            return
        bundle = value.bundle
        try:
            value.wearer.take_off()
            with (
                memory_errors(),
                self.host.lease(
                    bundle.digest,
                    lambda: bundle.nbytes,
                    lambda: bundle.to(torch.device("cpu"), pinned=self.device.type == "cuda"),
                    label=value.name,
                ),
            ):
                pass
        except OutOfMemory as error:
            _log.info("%s leaves the device and is not kept in memory beside it: %s", value.name, error)
        except Exception as error:
            _log.warning(
                "%s leaves the device and could not be kept in memory beside it; it will be read from its file again: %s",
                value.name,
                error,
                exc_info=True,
            )

    def _wear(
        self, job: GenerationJob, pipeline: Pipeline, worn: Mapping[str, tuple[Factors, Strength]]
    ) -> tuple[str, ...]:
        """Merged if there is room for that, else beside the model."""
        if worn and pipeline.wearer.wears(worn, merged=False):  # there was no room for it the last time
            return (UNMERGED,)
        try:
            try:
                self._put_on(job, pipeline, worn, merged=True)
            except OutOfMemory:
                if not pipeline.wearer.release():
                    raise
                self._put_on(job, pipeline, worn, merged=True)
            return ()
        except OutOfMemory:
            if not worn:
                raise
        return self._wear_beside(job, pipeline, worn)

    def _wear_beside(
        self, job: GenerationJob, pipeline: Pipeline, worn: Mapping[str, tuple[Factors, Strength]]
    ) -> tuple[str, ...]:
        self._put_on(job, pipeline, worn, merged=False)
        return (UNMERGED,)

    def _put_on(
        self,
        job: GenerationJob,
        pipeline: Pipeline,
        worn: Mapping[str, tuple[Factors, Strength]],
        *,
        merged: bool,
    ) -> None:
        """The budget makes room first; afterwards what it counts is what is there, however this ended."""
        key, own, wearer = self._checkpoint_key(job.checkpoint), pipeline.bundle.nbytes, pipeline.wearer
        try:
            self.residency.resize(key, own + wearer.needs(worn, merged=merged), job.holder)
            self._with_room(lambda: wearer.wear(worn, merged=merged))
        finally:
            self.residency.resize(key, own + wearer.nbytes)

    def _drawn(
        self,
        job: GenerationJob,
        pipeline: Pipeline,
        worn: Mapping[str, tuple[Factors, Strength]],
        draw: Callable[[], tuple[T, tuple[str, ...]]],
    ) -> tuple[T, tuple[str, ...]]:
        """Drawn again without what is idle, then with the LoRAs unmerged, if memory ends on the way."""
        try:
            return self._with_room(draw)
        except OutOfMemory:
            if not worn or pipeline.wearer.wears(worn, merged=False):
                raise
        beside = self._wear_beside(job, pipeline, worn)
        images, warnings = self._with_room(draw)
        return images, (*beside, *warnings)

    def _with_room(self, work: Callable[[], T]) -> T:
        """Once more with everything idle evicted, if the device has no memory for it."""
        try:
            with memory_errors():
                return work()
        except OutOfMemory:
            self.residency.evict_idle()
        with memory_errors():
            return work()

    @staticmethod
    def _key(adapter: AdapterRef, bundle: Bundle) -> str:
        """What a LoRA's tensors mean depends on the base's names: factors are shared by bases of one structure."""
        return f"{adapter.digest}:{bundle.structure}"

    def _factors(self, adapter: AdapterRef, bundle: Bundle, holder: Holder) -> AbstractContextManager[Factors]:
        def load() -> Factors:
            try:
                fit = check_fit(read_header(adapter.path), bundle.specs)
            except UnreadableModel as error:
                raise UnusableFile(f"{adapter.name}: {error}", reason=error.code) from error
            if not fit.fits:
                raise IncompatibleAdapter(
                    f"{adapter.name} does not fit this checkpoint: {fit.reason}.",
                    adapter=adapter.name,
                    problems=[str(problem) for problem in fit.problems[:NAMED_PROBLEMS]],
                    count=len(fit.problems),
                )
            factors = load_factors(adapter.path, bundle.shapes, self.device, mapped=adapter.managed)
            self.residency.resize(self._key(adapter, bundle), factors.nbytes, holder)
            return factors

        def size() -> int:
            try:
                return adapter.path.stat().st_size
            except FileNotFoundError:
                raise FileMissing(
                    f"The file of {adapter.name} is gone: {adapter.path}.", path=str(adapter.path)
                ) from None

        return self.residency.lease(
            self._key(adapter, bundle), size, lambda: self._with_room(load), holder=holder, label=adapter.name
        )


def _release(value: Any) -> int:
    return value.wearer.release() if isinstance(value, Pipeline) else 0


def _strength(adapter: AdapterRef) -> Strength:
    return Strength(adapter.weight, adapter.weight if adapter.text_weight is None else adapter.text_weight)


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
