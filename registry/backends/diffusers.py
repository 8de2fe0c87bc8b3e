"""Generation with diffusers, in this process, on tensors that it does not own.

The pipeline's modules are made on the meta device and bound to a bundle's tensors: there is one copy of the base. A LoRA set is an
overlay of patched tensors; putting it on and taking it off exchanges pointers, so that the base comes back bit for bit.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import lcm
from threading import Lock
from typing import Any

import torch
import transformers
from PIL.Image import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from probes import UnreadableModel, read_header
from registry.backends import AdapterRef, Generated, GenerationJob, OnStep
from registry.backends.schedulers import SCHEDULERS, Scheduler, canonical
from registry.compatibility import check_fit
from registry.errors import FileMissing, IncompatibleAdapter, InvalidRequest, NotGenerable, OutOfMemory, UnusableFile
from registry.pipeline_config import PipelineConfig
from registry.weights.adapters import Factors, Strength, load_factors
from registry.weights.bundle import Bundle, bundle_bytes, load_bundle
from registry.weights.names import canonical_sources
from registry.weights.overlay import Slot, Wearer
from registry.weights.residency import Residency

# Before diffusers, whose import makes transformers warn that torchvision is missing, which nothing here needs.
transformers.logging.set_verbosity_error()

import diffusers  # noqa: E402

_CPU_ALLOCATOR = "DefaultCPUAllocator"
"""torch reports a failed allocation on the CPU as a RuntimeError with this word."""


class DiffusersBackend:
    """Stable Diffusion 1 and 2 on one device. See `registry.backends.Backend`.

    `device`: `auto` (CUDA, else Apple's MPS, else the CPU) or torch's name of one. `dtype`: `auto` (float16 on CUDA, else
    float32) or torch's name. `budget_bytes`: for resident checkpoints and adapters; None: half of the memory of a machine, 80 % of
    that of a GPU.
    """

    def __init__(self, device: str = "auto", dtype: str = "auto", budget_bytes: int | None = None) -> None:
        self.device = _device(device)
        self.dtype = _dtype(dtype, self.device)
        self.residency = Residency(_default_budget(self.device) if budget_bytes is None else budget_bytes)
        self._running = Lock()  # one generation at a time: a pipeline wears one overlay, a device serves one caller

    def generate(self, job: GenerationJob, on_step: OnStep | None = None) -> Generated:
        """See `registry.backends.Backend.generate`. Loading goes on beside another job's generation."""
        _check(job)
        scheduler, eta = _scheduler(job)
        clock = _Stopwatch(self.device)
        with _memory_errors(), ExitStack() as leases:
            pipeline = leases.enter_context(self._pipeline(job))
            clock.lap("load")
            worn = {
                key: (leases.enter_context(self._factors(key, adapter, pipeline.bundle)), strength)
                for adapter in job.adapters
                if not (strength := _strength(adapter)).off
                for key in [self._key(adapter, pipeline.bundle)]
            }
            clock.lap("adapters")
            leases.enter_context(self._running)
            clock.lap("wait")
            pipeline.wearer.wear(worn)
            clock.lap("adapters")
            images = pipeline.run(job, scheduler, eta, on_step, clock)
        seeds = tuple(range(job.seed, job.seed + job.n))
        return Generated(images, seeds, clock.seconds())

    def _pipeline(self, job: GenerationJob) -> Any:
        checkpoint = job.checkpoint
        return self.residency.lease(
            f"{checkpoint.digest}:{checkpoint.config.folder}",
            lambda: bundle_bytes(checkpoint.path, self.dtype),
            lambda: _Pipeline(
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
            return load_factors(adapter.path, bundle.shapes, self.device)

        def size() -> int:
            try:
                return adapter.path.stat().st_size
            except FileNotFoundError:
                raise FileMissing(
                    f"The file of {adapter.name} is gone: {adapter.path}.", path=str(adapter.path)
                ) from None

        return self.residency.lease(key, size, load)


def _strength(adapter: AdapterRef) -> Strength:
    return Strength(adapter.weight, adapter.weight if adapter.text_weight is None else adapter.text_weight)


class _Pipeline:
    """A StableDiffusionPipeline bound to a bundle, and the overlay that it wears."""

    def __init__(self, bundle: Bundle, config: PipelineConfig) -> None:
        if config.unet["in_channels"] != config.vae["latent_channels"]:
            raise NotGenerable(
                f"Its UNet takes {config.unet['in_channels']} channels, the VAE gives {config.vae['latent_channels']}: "
                "an inpainting or editing checkpoint, which text alone cannot drive."
            )
        self.bundle = bundle
        with torch.device("meta"):
            modules: dict[str, torch.nn.Module] = {
                "unet": diffusers.UNet2DConditionModel.from_config(dict(config.unet)),
                "vae": diffusers.AutoencoderKL.from_config(dict(config.vae)),
                "text_encoder": CLIPTextModel(CLIPTextConfig.from_dict(dict(config.text_encoder))),
            }
        self.slots: dict[str, Slot] = {}
        for component, module in modules.items():
            self.slots |= _bind(component, module, bundle)
        self.wearer = Wearer(bundle, self.slots)
        self.pipe = diffusers.StableDiffusionPipeline(
            **modules,
            tokenizer=CLIPTokenizer.from_pretrained(str(config.tokenizer), local_files_only=True),
            scheduler=_build(SCHEDULERS[config.scheduler], config, None),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        self.pipe.set_progress_bar_config(disable=True)

    @torch.inference_mode()
    def run(
        self, job: GenerationJob, scheduler: Any, eta: float, on_step: OnStep | None, clock: _Stopwatch
    ) -> tuple[Image, ...]:
        """One picture per pass: batched kernels round differently for each batch size, and a seed must mean one picture."""
        pipe, guided = self.pipe, job.cfg > 1
        pipe.scheduler = scheduler
        positive, negative = pipe.encode_prompt(job.prompt, self.bundle.device, 1, guided, job.negative_prompt or None)
        clock.lap("encode")
        images: list[Image] = []

        def stepped(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if on_step:
                on_step(len(images) * pipe.num_timesteps + step + 1, job.n * pipe.num_timesteps)
            if step + 1 == pipe.num_timesteps:
                clock.lap("denoise")
            return tensors

        for index in range(job.n):
            images += pipe(
                prompt_embeds=positive,
                negative_prompt_embeds=negative if guided else None,
                num_inference_steps=job.steps,
                guidance_scale=job.cfg,
                width=job.width,
                height=job.height,
                eta=eta,
                # noise is drawn on the CPU, so that a seed does not depend on the device
                generator=torch.Generator("cpu").manual_seed(job.seed + index),
                callback_on_step_end=stepped,
            ).images
            clock.lap("decode")
        return tuple(images)


def _bind(component: str, module: torch.nn.Module, bundle: Bundle) -> dict[str, Slot]:
    """Gives a module on the meta device the bundle's own tensors, without a copy. Returns canonical name -> where it is read.

    Raises NotGenerable: names or shapes are not the configuration's.
    """
    module.requires_grad_(False).eval()
    own = {source.name: name for name, source in canonical_sources(module.state_dict(), component).items()}
    theirs = {name for name in bundle.tensors if name.startswith(f"{component}.")}
    if differing := sorted(theirs ^ set(own.values())):
        raise NotGenerable(
            f"The {component}'s tensors are not those of its configuration: {', '.join(differing[:3])} ...",
            tensors=differing,
        )
    try:
        module.load_state_dict({name: bundle.tensors[canonical] for name, canonical in own.items()}, assign=True)
    except RuntimeError as error:
        raise NotGenerable(f"The {component}'s tensors are not those of its configuration: {error}") from error
    for owner in module.modules():
        if "position_ids" in owner._buffers:  # CLIP's 0, 1, 2, ...: in no file, and on meta it has no values
            count = owner.get_buffer("position_ids").shape[-1]
            owner.register_buffer(
                "position_ids", torch.arange(count, device=bundle.device).expand(1, -1), persistent=False
            )
    return {
        canonical: Slot(module.get_submodule(name.rpartition(".")[0]), module.get_parameter(name))
        for name, canonical in own.items()
    }


def _check(job: GenerationJob) -> None:
    unit = lcm(8, job.checkpoint.config.vae_scale)
    for side in ("width", "height"):
        pixels = getattr(job, side)
        if pixels < unit or pixels % unit:
            raise InvalidRequest(f"{side} must be a multiple of {unit} pixels, not {pixels}.", field=side)
    for field, value in (("steps", job.steps), ("n", job.n)):
        if value < 1:
            raise InvalidRequest(f"{field} must be at least 1, not {value}.", field=field)
    if not 0 <= job.seed <= 2**63 - job.n:
        raise InvalidRequest(f"seed must be from 0 to {2**63 - job.n}, not {job.seed}.", field="seed")


def _scheduler(job: GenerationJob) -> tuple[Any, float]:
    entry = SCHEDULERS[canonical(job.scheduler)]
    scheduler = _build(entry, job.checkpoint.config, job.prediction_type)
    trained = scheduler.config.num_train_timesteps
    if job.steps > trained:
        raise InvalidRequest(f"steps must be at most {trained}, not {job.steps}.", field="steps")
    try:
        scheduler.set_timesteps(job.steps)
    except ValueError as error:  # LCM and TCD take no more steps than they were distilled from
        raise InvalidRequest(f"{entry.label} cannot run {job.steps} steps: {error}", field="steps") from error
    return scheduler, entry.eta


def _build(entry: Scheduler, config: PipelineConfig, prediction_type: str | None) -> Any:
    stated = {"prediction_type": prediction_type} if prediction_type else {}
    return getattr(diffusers, entry.diffusers).from_config(dict(config.scheduler_config), **entry.overrides, **stated)


@dataclass
class _Stopwatch:
    """Seconds by phase; a GPU is waited for, since it works behind the caller's back."""

    device: torch.device

    def __post_init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = dict.fromkeys(("load", "adapters", "wait", "encode", "denoise", "decode"), 0.0)

    def lap(self, phase: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self._laps[phase] += now - self._last
        self._last = now

    def seconds(self) -> Mapping[str, float]:
        return {**self._laps, "total": self._last - self._start}


@contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if (
            isinstance(error, RuntimeError)
            and not isinstance(error, torch.OutOfMemoryError)
            and _CPU_ALLOCATOR not in str(error)
        ):
            raise
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise OutOfMemory(
            "The device has too little memory for this: ask for a smaller picture, or fewer LoRAs."
        ) from error


def _device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InvalidRequest(f"{name!r} is no floating point dtype of torch.", field="dtype")
    return dtype


def _default_budget(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * 0.8)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
