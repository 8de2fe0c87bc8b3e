"""From a job and a pipeline to pictures: scheduler, passes of several pictures, progress."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any

import diffusers
import torch
from PIL.Image import Image
from torch import Tensor

from registry.backends import GenerationJob, OnStep, Step
from registry.backends.diffusers.families import KINDS
from registry.backends.diffusers.pipeline import Pipeline
from registry.backends.machine import Stopwatch, memory_errors
from registry.backends.schedulers import SCHEDULERS, canonical
from registry.errors import InvalidRequest, OutOfMemory
from registry.holders import GoOn


def build_scheduler(job: GenerationJob) -> tuple[Any, tuple[str, ...]]:
    """diffusers' object for the job's scheduler, from the checkpoint's own configuration; and warnings.

    Raises InvalidRequest: it does not run this kind of checkpoint, or so many steps.
    """
    entry = SCHEDULERS[canonical(job.scheduler)]
    config = dict(job.checkpoint.config.scheduler_config)
    flow = str(config.get("_class_name")).startswith("FlowMatch")
    if flow and entry.flow is None:
        there = [name for name, other in SCHEDULERS.items() if other.flow]
        raise InvalidRequest(
            f"{entry.label} does not run flow-matching checkpoints; {', '.join(there)} do.",
            field="scheduler",
            choices=there,
        )
    made_by = getattr(diffusers, str(entry.flow) if flow else entry.diffusers)
    stated = {"prediction_type": job.prediction_type} if job.prediction_type and not flow else {}
    made = made_by.from_config(config, **entry.overrides, **stated)
    if KINDS[job.checkpoint.config.pipeline].own_sigmas and "sigmas" not in signature(made.set_timesteps).parameters:
        raise InvalidRequest(
            f"{entry.label} spaces its own noise levels, which this checkpoint's pipeline sets; euler takes them.",
            field="scheduler",
        )
    trained = made.config.num_train_timesteps
    if job.steps > trained:
        raise InvalidRequest(f"steps must be at most {trained}, not {job.steps}.", field="steps")
    if job.image is not None and int(job.steps * job.strength) < 1:
        raise InvalidRequest(
            f"At strength {job.strength:g} none of {job.steps} steps would run; ask for more of either.",
            field="strength",
        )
    if not flow:
        try:
            made.set_timesteps(job.steps)
        except ValueError as error:  # LCM and TCD take no more steps than they were distilled from
            raise InvalidRequest(f"{entry.label} cannot run {job.steps} steps: {error}", field="steps") from error
    zero_snr = config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in signature(made_by).parameters
    warnings = (f"{entry.label} cannot start at zero signal, which this checkpoint was trained to; euler or ddim can.",)
    return made, warnings if zero_snr else ()


@torch.inference_mode()
def sample(
    pipeline: Pipeline,
    job: GenerationJob,
    scheduler: Any,
    batch: int,
    on_step: OnStep | None,
    clock: Stopwatch,
    go_on: GoOn = lambda: None,
) -> tuple[tuple[Image, ...], tuple[str, ...]]:
    """The job's pictures, at most `batch` of them in one pass, fewer where memory is short; and warnings.

    Each picture has a generator of its own, on the CPU, so that its noise depends neither on the device nor on its neighbours.
    Raises OutOfMemory: not even one fits; and whatever `go_on` raises once the prompt is encoded.
    """
    pipe = pipeline.text_to_image if job.image is None else pipeline.image_to_image
    guided = job.cfg > 1 and pipeline.guidance_is_a_pass
    texts = pipeline.kind.encode(pipe, job.prompt, job.negative_prompt, guided)
    pixels = _pixels(pipe, job)
    call = {"num_inference_steps": job.steps, "guidance_scale": job.cfg, "output_type": "latent"}
    call |= {} if pixels is None else {"strength": job.strength}
    may = {"eta": SCHEDULERS[canonical(job.scheduler)].eta if job.eta is None else job.eta}
    may |= {"width": job.width, "height": job.height}
    takes = signature(pipe.__call__).parameters
    call |= {name: value for name, value in may.items() if name in takes}  # a start picture has its size
    clock.lap("encode")
    go_on()
    images: list[Image] = []
    passes = 0
    while len(images) < job.n:
        count = min(batch, job.n - len(images))
        first = job.seed + len(images)
        left = passes + -(-(job.n - len(images)) // batch)  # passes in all, as things stand
        stepped = _Watch(pipeline, job, on_step, clock, passes, left)
        generators = [torch.Generator("cpu").manual_seed(first + index) for index in range(count)]
        pipe.scheduler = scheduler
        try:
            with memory_errors():
                start = {} if pixels is None else {"image": torch.cat([pipeline.encode(pixels, g) for g in generators])}
                each = {name: text.repeat_interleave(count, 0) for name, text in texts.items()}
                made = pipe(**call, **each, **start, generator=generators, callback_on_step_end=stepped)
                decoded = pipeline.decode(pipeline.unpack(made.images, job.width, job.height))
        except OutOfMemory:
            if count == 1:
                raise
            batch = count // 2
            continue
        passes += 1
        images += pipe.image_processor.postprocess(decoded, output_type="pil")
        clock.lap("decode")
    return tuple(images), cut_prompts(pipeline, job)


@dataclass(frozen=True, slots=True)
class _Watch:
    """A pipeline's callback after every step, in the pass after `passes` of `total` passes."""

    pipeline: Pipeline
    job: GenerationJob
    on_step: OnStep | None
    clock: Stopwatch
    passes: int
    total: int

    def __call__(self, running: Any, step: int, _: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        steps = running.num_timesteps
        if self.on_step:
            done = self.passes * steps + step + 1
            self.on_step(Step(done, self.total * steps, lambda: self._preview(tensors["latents"])))
        if step + 1 == steps:
            self.clock.lap("denoise")
        return tensors

    def _preview(self, latents: Tensor) -> tuple[Image, ...]:
        return self.pipeline.preview(self.pipeline.unpack(latents, self.job.width, self.job.height))


def _pixels(pipe: Any, job: GenerationJob) -> Tensor | None:
    """The start picture [1, 3, height, width] in -1..1, resized to the job's size."""
    if job.image is None:
        return None
    made: Tensor = pipe.image_processor.preprocess(job.image, height=job.height, width=job.width)
    return made


def cut_prompts(pipeline: Pipeline, job: GenerationJob) -> tuple[str, ...]:
    """A warning for each prompt that is longer than the text encoder reads, with the words that it does not see."""
    name, most = pipeline.kind.reads
    if name not in pipeline.tokenizers:  # of an optional text encoder
        name, most = "tokenizer", None
    tokenizer = pipeline.tokenizers[name]
    room = (most or tokenizer.model_max_length) - tokenizer.num_special_tokens_to_add()  # marks of start and end
    warnings = []
    for name, text in (("prompt", job.prompt), ("negative prompt", job.negative_prompt)):
        tokens = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        if len(tokens) > room:
            unseen = tokenizer.decode(tokens[room:])
            warnings.append(f"The {name} has {len(tokens)} tokens, of which {room} are read; not seen: “{unseen}”.")
    return tuple(warnings)
