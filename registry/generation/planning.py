"""From a request to what will run: find the models, hold the adapters against the checkpoint, decide every value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from math import lcm
from pathlib import Path

from probes import Kind, UnreadableModel, read_header
from registry.backends import AdapterRef, CheckpointRef, GenerationJob
from registry.backends.schedulers import canonical
from registry.catalog import Catalog
from registry.compatibility import Fit, checkpoint_tensors, judge
from registry.errors import FileMissing, IncompatibleAdapter, InvalidRequest, NotGenerable, UnusableFile
from registry.generation.lending import Lending
from registry.models import Model
from registry.pictures import open_picture
from registry.plans import DEFAULT_LIMITS, Borrowed, ConfigFacts, GenerationRequest, Limits, Plan, Sourced
from registry.prompts import with_tags_read
from registry.recipes import StartPicture, make_plan, weight_range
from registry.weights.files import Lent, adapter_file

_NEEDS_MORE = {
    "inpaint": "a picture and a mask",
    "edit": "a picture to edit",
    "depth": "a depth map",
    "upscaler": "a small picture",
    "image-prompt": "a picture that prompts it",
    "unclip": "a picture that prompts it",
}
"""Variants, as the probe names them, that a prompt alone cannot drive."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a request would do, and what would be done if it stated no values. `ranges`: LoRA id -> recommended (min, max) weight."""

    plan: Plan
    recommended: Plan
    ranges: Mapping[str, Sourced[tuple[float, float]] | None]


@lru_cache(maxsize=4096)
def _fit(adapter: Path, checkpoint: Path, family: str, _identities: tuple[str, str], lent: tuple[Lent, ...]) -> Fit:
    """Installed files do not change, so a verdict holds as long as what identifies the bytes: a second generation reads no header."""
    return judge(read_header(adapter_file(adapter)), family, lambda: checkpoint_tensors(checkpoint, lent))


class Planner:
    """`current`: a model as its file is now; asked before any of it is read."""

    def __init__(
        self, catalog: Catalog, limits: Limits = DEFAULT_LIMITS, current: Callable[[Model], Model] = lambda model: model
    ) -> None:
        self._catalog = catalog
        self._limits = limits
        self._current = current
        self._lending = Lending(catalog, current, self.identity)

    def preview(self, request: GenerationRequest) -> Preview:
        """Raises what `resolve` raises."""
        request = with_tags_read(request)
        bare = tuple(replace(a, weight=None) for a in request.loras)
        left = dict.fromkeys(("steps", "cfg", "scheduler", "width", "height", "strength"))
        unasked = replace(request, loras=bare, **left)  # type: ignore[arg-type]  # all of them may be None
        models = [self._catalog.called(a.model) for a in request.loras]
        return Preview(self.resolve(request)[0], self.resolve(unasked)[0], {m.id: weight_range(m) for m in models})

    def fit(self, adapter: Model, checkpoint: Model, lent: tuple[Lent, ...] = ()) -> Fit:
        """By family, then tensor by tensor. A file that is gone or damaged fits nothing, and the reason says so."""
        if adapter.family != checkpoint.family:
            return Fit.strangers(adapter, checkpoint)
        paths = (self._catalog.path(adapter), self._catalog.path(checkpoint))
        if missing := next((path for path in paths if not path.exists()), None):
            return Fit.gone(missing)
        try:
            return _fit(*paths, checkpoint.family, (self.identity(adapter), self.identity(checkpoint)), lent)
        except (UnreadableModel, UnusableFile) as error:
            return Fit.refused(str(error))

    def borrowed(self, checkpoint: Model) -> tuple[Borrowed, ...]:
        """What a picture of it would take from other models; nothing also where it cannot make one."""
        if checkpoint.kind == Kind.CHECKPOINT:
            with suppress(NotGenerable, FileMissing, UnusableFile):
                return tuple(map(_borrowed, self.reference(self._current(checkpoint)).lent))
        return ()

    def reference(self, checkpoint: Model, prediction_type: str | None = None) -> CheckpointRef:
        """Of a model that is `current`. Raises NotGenerable, FileMissing, UnusableFile."""
        config, lent = self._lending.runs_with(checkpoint, prediction_type or checkpoint.prediction_type)
        path, digest = self._catalog.path(checkpoint), self.identity(checkpoint)
        return CheckpointRef(path, digest, config, checkpoint.name, checkpoint.managed, lent)

    def resolve(self, request: GenerationRequest) -> tuple[Plan, GenerationJob, dict[str, str]]:
        """The plan, the backend's job, and the digests that the pictures will name the models by.

        Raises ModelNotFound, InvalidRequest, IncompatibleAdapter, NotGenerable, FileMissing, UnusableFile: whatever can be seen before
        anything is loaded.
        """
        request = with_tags_read(request)
        known = self._catalog.known([request.checkpoint, *(a.model for a in request.loras)])
        checkpoint = self._current(known.get(request.checkpoint) or self._catalog.get(request.checkpoint))
        if checkpoint.kind != Kind.CHECKPOINT:
            raise InvalidRequest(
                f"{checkpoint.name} is a {checkpoint.kind}; `checkpoint` must name a checkpoint.", field="checkpoint"
            )
        if checkpoint.variant in _NEEDS_MORE:
            raise NotGenerable(
                f"{checkpoint.name} needs {_NEEDS_MORE[checkpoint.variant]} beside the prompt, as every {checkpoint.variant} checkpoint "
                "does; that cannot be given here.",
                model=checkpoint.id,
                variant=checkpoint.variant,
            )
        adapters = [
            (self._current(known.get(a.model) or self._catalog.called(a.model)), a.weight) for a in request.loras
        ]
        reference = self.reference(checkpoint, request.prediction_type)
        for model, _ in adapters:
            if model.kind == Kind.CHECKPOINT:
                raise InvalidRequest(f"{model.name} is a checkpoint; `loras` takes LoRAs.", field="loras")
            if not (fit := self.fit(model, checkpoint, reference.lent)).fits:
                raise IncompatibleAdapter(
                    f"{model.name} does not fit {checkpoint.name}: {fit.reason}",
                    model=model.id,
                    problems=[str(p) for p in fit.problems],
                )
        if request.scheduler is not None:
            request = replace(request, scheduler=canonical(request.scheduler))
        image = None if request.image is None else open_picture(request.image)
        start = None if image is None else StartPicture(sha256(request.image or b"").hexdigest(), image.size)
        config = reference.config
        facts = ConfigFacts(
            config.origin, config.scheduler, config.scheduler_class, config.native_size, lcm(8, config.pixel_unit)
        )
        texts = {
            model.id: asked.text_weight
            for (model, _), asked in zip(adapters, request.loras, strict=True)
            if asked.text_weight is not None
        }
        plan = make_plan(
            request,
            checkpoint,
            adapters,
            config=facts,
            start=start,
            text_weights=texts,
            borrowed=tuple(map(_borrowed, reference.lent)),
            limits=self._limits,
        )
        job = GenerationJob(
            checkpoint=reference,
            adapters=tuple(
                AdapterRef(
                    adapter_file(self._catalog.path(model)),
                    self.identity(model),
                    planned.weight.value,
                    model.name,
                    planned.text_weight.value if planned.text_weight else None,
                    model.managed,
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
            prediction_type=plan.prediction_type.value if plan.prediction_type else None,
            eta=plan.eta,
            image=image,
            strength=plan.strength.value if plan.strength else 1.0,
        )
        hashes = {checkpoint.name: checkpoint.sha256 or checkpoint.blake3}
        hashes |= {model.name: model.autov3 or model.blake3 for model, _ in adapters}
        return plan, job, {name: digest for name, digest in hashes.items() if digest}

    def identity(self, model: Model) -> str:
        """What tells its bytes from others': a digest; `unhashed-` and one of place, size and time until somebody has hashed it."""
        if model.blake3:
            return model.blake3
        path = self._catalog.path(model)
        try:
            seen = path.stat()
        except OSError as error:
            raise FileMissing(f"{path} cannot be read: {error.strerror}.", path=str(path)) from error
        return f"unhashed-{sha256(f'{path} {seen.st_size} {seen.st_mtime_ns}'.encode(errors='surrogateescape')).hexdigest()}"


def _borrowed(lent: Lent) -> Borrowed:
    return Borrowed(lent.id, lent.name, lent.known_by or None, tuple(sorted(lent.components)))
