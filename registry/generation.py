"""From a request to pictures: resolve the models, make the plan, hold the adapters against the checkpoint, run the backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from probes import Kind, UnreadableModel, read_header
from registry.backends import AdapterRef, Backend, CheckpointRef, GenerationJob
from registry.backends.schedulers import canonical
from registry.catalog import Catalog
from registry.compatibility import Fit, check_fit, checkpoint_tensors
from registry.errors import FileMissing, IncompatibleAdapter, InvalidRequest, NotGenerable, UnusableFile
from registry.models import Model
from registry.pictures import encode_png
from registry.pipeline_config import PipelineConfig
from registry.queries import Query
from registry.recipes import GenerationRequest, Plan, Sourced, make_plan, weight_range

OnStep = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Picture:
    png: bytes
    seed: int


@dataclass(frozen=True, slots=True)
class Generation:
    """`timings` in seconds, by part of the work."""

    plan: Plan
    pictures: tuple[Picture, ...]
    timings: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a request would do, and what would be done if it stated no values. `ranges`: LoRA id -> recommended (min, max) weight."""

    plan: Plan
    recommended: Plan
    ranges: Mapping[str, Sourced[tuple[float, float]] | None]


@lru_cache(maxsize=4096)
def _fit(adapter: Path, checkpoint: Path, _identities: tuple[str, str]) -> Fit:
    """Installed files do not change, so a verdict holds as long as what identifies the bytes: a second generation reads no header."""
    return check_fit(read_header(adapter), checkpoint_tensors(checkpoint))


class Generator:
    """`backend` is called for when the first picture is asked for: importing torch takes seconds."""

    def __init__(self, catalog: Catalog, backend: Callable[[], Backend]) -> None:
        self._catalog = catalog
        self._backend = backend

    def plan(self, request: GenerationRequest) -> Plan:
        return self._resolve(request)[0]

    def preview(self, request: GenerationRequest) -> Preview:
        """Raises what `generate` raises before it runs."""
        bare = tuple(replace(a, weight=None) for a in request.loras)
        unasked = GenerationRequest(request.checkpoint, request.prompt, loras=bare, seed=request.seed)
        models = [self._catalog.get(a.model) for a in request.loras]
        return Preview(self.plan(request), self.plan(unasked), {m.id: weight_range(m) for m in models})

    def generate(self, request: GenerationRequest, on_step: OnStep | None = None) -> Generation:
        plan, job, hashes = self._resolve(request)
        made = self._backend().generate(job, on_step)
        pictures = tuple(
            Picture(encode_png(i, plan, s, hashes), s) for i, s in zip(made.images, made.seeds, strict=True)
        )
        return Generation(plan, pictures, made.timings)

    def fit(self, adapter: Model, checkpoint: Model) -> Fit:
        """By family, then tensor by tensor. A file that is gone or damaged fits nothing, and the reason says so."""
        if adapter.family != checkpoint.family:
            return Fit.refused(f"{adapter.name} is for {adapter.family}, {checkpoint.name} is {checkpoint.family}")
        paths = (self._catalog.path(adapter), self._catalog.path(checkpoint))
        if missing := next((path for path in paths if not path.exists()), None):
            return Fit.refused(f"{missing} is gone; install it again")
        try:
            return _fit(*paths, (self._identity(adapter), self._identity(checkpoint)))
        except (UnreadableModel, UnusableFile) as error:
            return Fit.refused(str(error))
        except NotGenerable:
            # Tensor names that are not mapped yet: the family is all that can be compared, and the reason says that it was.
            return Fit(True, f"both are {checkpoint.family}; tensors of this family are not compared yet", 0, 0)

    def _resolve(self, request: GenerationRequest) -> tuple[Plan, GenerationJob, dict[str, str]]:
        checkpoint = self._catalog.get(request.checkpoint)
        if checkpoint.kind != Kind.CHECKPOINT:
            raise InvalidRequest(
                f"{checkpoint.name} is a {checkpoint.kind}; `checkpoint` must name a checkpoint.", field="checkpoint"
            )
        adapters = [(self._catalog.get(a.model), a.weight) for a in request.loras]
        for model, _ in adapters:
            if model.kind == Kind.CHECKPOINT:
                raise InvalidRequest(f"{model.name} is a checkpoint; `loras` takes LoRAs.", field="loras")
            if not (fit := self.fit(model, checkpoint)).fits:
                raise IncompatibleAdapter(
                    f"{model.name} does not fit {checkpoint.name}: {fit.reason}",
                    model=model.id,
                    problems=[str(p) for p in fit.problems],
                )
        config = self._pipeline_config(checkpoint)
        if request.scheduler is not None:
            request = replace(request, scheduler=canonical(request.scheduler))
        plan = make_plan(
            request,
            checkpoint,
            adapters,
            own_scheduler=config.scheduler,
            native_size=config.native_size,
            config_of=config.folder.name,
        )
        job = GenerationJob(
            checkpoint=CheckpointRef(self._catalog.path(checkpoint), self._identity(checkpoint), config),
            adapters=tuple(
                AdapterRef(self._catalog.path(model), self._identity(model), planned.weight.value, model.name)
                for (model, _), planned in zip(adapters, plan.adapters, strict=True)
            ),
            prompt=plan.prompt,
            negative_prompt=plan.negative_prompt,
            scheduler=plan.scheduler.value,
            steps=plan.steps.value,
            cfg=plan.cfg.value,
            seed=plan.seed.value,
            width=plan.width.value,
            height=plan.height.value,
            n=plan.n,
            prediction_type=checkpoint.prediction_type,
        )
        hashes = {checkpoint.name: checkpoint.sha256 or checkpoint.blake3}
        hashes |= {model.name: model.autov3 or model.blake3 for model, _ in adapters}
        return plan, job, {name: digest for name, digest in hashes.items() if digest}

    def _identity(self, model: Model) -> str:
        """What tells its bytes from others': a digest; of a model that nobody has hashed yet, its place, size and time."""
        if model.blake3:
            return model.blake3
        path = self._catalog.path(model)
        try:
            seen = path.stat()
        except OSError as error:
            raise FileMissing(f"{path} cannot be read: {error.strerror}.", path=str(path)) from error
        return f"{path} {seen.st_size} {seen.st_mtime_ns}"

    def _pipeline_config(self, checkpoint: Model) -> PipelineConfig:
        """A folder's own; for a single file, which has neither tokenizer nor configs, that of an installed folder of the same shapes."""
        path = self._catalog.path(checkpoint)
        if path.is_dir():
            return PipelineConfig.from_folder(path)
        tensors = checkpoint_tensors(path)
        for other in self._catalog.every(Query(Kind.CHECKPOINT, checkpoint.family)):
            folder = self._catalog.path(other)
            with suppress(NotGenerable, FileMissing, UnusableFile):  # this folder cannot lend; another may
                if folder.is_dir() and (config := PipelineConfig.from_folder(folder)).fits(tensors):
                    return config
        raise NotGenerable(
            f"{checkpoint.name} is a single file, which has no tokenizer and no pipeline configuration in it. Install a diffusers folder "
            f"of the same {checkpoint.family} architecture; its configuration is then used for this file.",
            model=checkpoint.id,
        )
