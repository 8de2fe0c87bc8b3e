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
from registry.pictures import encode_png
from registry.pipeline_config import PipelineConfig
from registry.recipes import GenerationRequest, Plan, make_plan
from registry.tables import Model

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


@lru_cache(maxsize=4096)
def _fit(adapter: Path, checkpoint: Path, _digests: tuple[str, str]) -> Fit:
    """Installed files do not change, so a verdict holds as long as the digests: a second generation reads no header."""
    return check_fit(read_header(adapter), checkpoint_tensors(checkpoint))


class Generator:
    """`backend` is called for when the first picture is asked for: importing torch takes seconds."""

    def __init__(self, catalog: Catalog, backend: Callable[[], Backend]) -> None:
        self._catalog = catalog
        self._backend = backend

    def plan(self, request: GenerationRequest) -> Plan:
        return self._resolve(request)[0]

    def generate(self, request: GenerationRequest, on_step: OnStep | None = None) -> Generation:
        plan, job, hashes = self._resolve(request)
        made = self._backend().generate(job, on_step)
        plan = replace(plan, notes=plan.notes + made.notes)
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
            return _fit(*paths, (adapter.blake3, checkpoint.blake3))
        except (UnreadableModel, UnusableFile) as error:
            return Fit.refused(str(error))
        except NotGenerable:
            # Tensor names that are not mapped yet: the family is all that can be compared, and the reason says that it was.
            return Fit(True, f"both are {checkpoint.family}; tensors of this family are not compared yet", 0, 0)

    def reference(self, checkpoint: Model) -> CheckpointRef:
        """Raises NotGenerable, FileMissing, UnusableFile."""
        config = self._pipeline_config(checkpoint)
        return CheckpointRef(self._catalog.path(checkpoint), checkpoint.blake3, config, checkpoint.name)

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
        reference = self.reference(checkpoint)
        config = reference.config
        if request.scheduler is not None:
            request = replace(request, scheduler=canonical(request.scheduler))
        plan = make_plan(
            request,
            checkpoint,
            adapters,
            own_scheduler=config.scheduler,
            native_size=config.native_size,
            config_of=config.folder.name,
            text_weights={
                model.id: asked.text_weight
                for (model, _), asked in zip(adapters, request.loras, strict=True)
                if asked.text_weight is not None
            },
        )
        job = GenerationJob(
            checkpoint=reference,
            adapters=tuple(
                AdapterRef(
                    self._catalog.path(model),
                    model.blake3,
                    planned.weight.value,
                    model.name,
                    planned.text_weight.value if planned.text_weight else None,
                )
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
        return plan, job, hashes

    def _pipeline_config(self, checkpoint: Model) -> PipelineConfig:
        """A folder's own; for a single file, which has neither tokenizer nor configs, that of an installed folder of the same shapes."""
        path = self._catalog.path(checkpoint)
        if path.is_dir():
            return PipelineConfig.from_folder(path)
        tensors = checkpoint_tensors(path)
        for other in self._catalog.list(kind=Kind.CHECKPOINT, family=checkpoint.family, limit=1000):
            folder = self._catalog.path(other)
            with suppress(NotGenerable, FileMissing, UnusableFile):  # this folder cannot lend; another may
                if folder.is_dir() and (config := PipelineConfig.from_folder(folder)).fits(tensors):
                    return config
        raise NotGenerable(
            f"{checkpoint.name} is a single file, which has no tokenizer and no pipeline configuration in it. Install a diffusers folder "
            f"of the same {checkpoint.family} architecture; its configuration is then used for this file.",
            model=checkpoint.id,
        )
