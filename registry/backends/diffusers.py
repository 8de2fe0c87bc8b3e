"""Generation with diffusers, in this process, on tensors that it does not own.

The pipeline's modules are made on the meta device and bound to a bundle's tensors: there is one copy of the base. A LoRA set is an
overlay of patched tensors; putting it on and taking it off exchanges pointers, so that the base comes back bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from math import lcm
from threading import Lock
from typing import Any, TypeVar

import torch
import transformers
from PIL.Image import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from probes import UnreadableModel, read_header
from registry.backends import (
    AdapterRef,
    CheckpointRef,
    Generated,
    GenerationJob,
    OnStep,
    Resident,
    Residents,
    Tier,
)
from registry.backends.machine import (
    Stopwatch,
    default_budget,
    default_host_budget,
    memory_errors,
    torch_device,
    torch_dtype,
)
from registry.backends.schedulers import SCHEDULERS, Scheduler, canonical
from registry.compatibility import check_fit
from registry.errors import (
    FileMissing,
    IncompatibleAdapter,
    InvalidRequest,
    NotGenerable,
    NotResident,
    OutOfMemory,
    UnusableFile,
)
from registry.pipeline_config import PipelineConfig
from registry.weights.adapters import Factors, Strength, load_factors
from registry.weights.bundle import Bundle, bundle_bytes, load_bundle
from registry.weights.names import canonical_sources
from registry.weights.overlay import Slot, Wearer
from registry.weights.residency import Residency

# Before diffusers, whose import makes transformers warn that torchvision is missing, which nothing here needs.
transformers.logging.set_verbosity_error()

import diffusers  # noqa: E402

T = TypeVar("T")

NAMED_PROBLEMS = 100
"""How many tensors that do not fit an error lists; it counts them all."""

UNMERGED = "The LoRAs ran beside the model, unmerged: merged they would not have had room in memory."


class DiffusersBackend:
    """Stable Diffusion 1 and 2 on one device. See `registry.backends.Backend` and `Keeper`.

    `device`: `auto` (CUDA, else Apple's MPS, else the CPU) or torch's name of one. `dtype`: `auto` (float16 on CUDA, else
    float32) or torch's name. `budget_bytes`: for resident checkpoints, what they wear, and adapters; None: half of the memory of a machine,
    80 % of that of a GPU. `host_bytes`: for checkpoints that had to leave the device; None: a quarter of the machine's memory beside a
    GPU, else nothing, since on a CPU the mapped files are already there. `keep_alive` in seconds, None: until room is needed.
    """

    def __init__(
        self,
        device: str = "auto",
        dtype: str = "auto",
        budget_bytes: int | None = None,
        host_bytes: int | None = None,
        keep_alive: float | None = None,
    ) -> None:
        self.device = torch_device(device)
        self.dtype = torch_dtype(dtype, self.device)
        budget = default_budget(self.device) if budget_bytes is None else budget_bytes
        self.residency = Residency(budget, keep_alive=keep_alive, evicted=self._demote)
        self.host = Residency(default_host_budget(self.device) if host_bytes is None else host_bytes)
        self._running = Lock()  # one generation at a time: a pipeline wears one overlay, a device serves one caller

    def generate(self, job: GenerationJob, on_step: OnStep | None = None) -> Generated:
        """See `registry.backends.Backend.generate`. Loading goes on beside another job's generation."""
        _check(job)
        scheduler, eta = _scheduler(job)
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
            leases.enter_context(self._running)
            clock.lap("wait")
            notes = self._wear(job.checkpoint, pipeline, worn)
            clock.lap("adapters")
            with memory_errors():
                images = pipeline.run(job, scheduler, eta, on_step, clock)
        seeds = tuple(range(job.seed, job.seed + job.n))
        return Generated(images, seeds, clock.seconds(), notes)

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

    def load(self, checkpoint: CheckpointRef) -> None:
        with self._pipeline(checkpoint, "loading"):
            pass

    def evict(self, digest: str) -> None:
        found = [
            (tier, e.key)
            for tier in (self.residency, self.host)
            for e in tier.entries()
            if e.key.startswith(f"{digest}:")
        ]
        if not found:
            raise NotResident("It is not in memory.", digest=digest)
        for tier, key in found:
            tier.evict(key)
        with suppress(NotResident):  # evicting it from the device may have put it here
            self.host.evict(f"{digest}:")

    @staticmethod
    def _checkpoint_key(checkpoint: CheckpointRef) -> str:
        return f"{checkpoint.digest}:{checkpoint.config.folder}"

    @contextmanager
    def _pipeline(self, checkpoint: CheckpointRef, holder: str) -> Iterator[_Pipeline]:
        with ExitStack() as lease:
            # held before room is made: what has to leave the device must not drive it out of the host
            with self.host.lease_resident(f"{checkpoint.digest}:", holder=holder) as kept:

                def load() -> _Pipeline:
                    path, digest = checkpoint.path, checkpoint.digest
                    bundle = kept.to(self.device) if kept else load_bundle(path, digest, self.device, self.dtype)
                    return _Pipeline(bundle, checkpoint.config)

                pipeline = lease.enter_context(
                    self.residency.lease(
                        self._checkpoint_key(checkpoint),
                        lambda: bundle_bytes(checkpoint.path, self.dtype),
                        lambda: self._with_room(load),
                        holder=holder,
                        label=checkpoint.name or checkpoint.path.name,
                    )
                )
            yield pipeline

    def _demote(self, key: str, value: Any) -> None:
        """A checkpoint that leaves the device goes to the host, if it has room there."""
        if isinstance(value, _Pipeline):
            value.wearer.take_off()
            bundle = value.bundle
            with (
                suppress(OutOfMemory),
                memory_errors(),
                self.host.lease(
                    f"{bundle.digest}:",
                    lambda: bundle.nbytes,
                    lambda: bundle.to(torch.device("cpu"), pinned=self.device.type == "cuda"),
                    label=value.name,
                ),
            ):
                pass

    def _wear(
        self, checkpoint: CheckpointRef, pipeline: _Pipeline, worn: Mapping[str, tuple[Factors, Strength]]
    ) -> tuple[str, ...]:
        """Merged if there is room for that, else beside the model."""
        key, own = self._checkpoint_key(checkpoint), pipeline.bundle.nbytes
        try:
            self.residency.resize(key, own + pipeline.wearer.needs(worn))
            self._with_room(lambda: pipeline.wearer.wear(worn))
            return ()
        except OutOfMemory:
            if not worn:
                raise
        pipeline.wearer.take_off()
        self.residency.resize(key, own)
        self._with_room(lambda: pipeline.wearer.wear(worn, merged=False))
        return (UNMERGED,)

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

    def _factors(self, adapter: AdapterRef, bundle: Bundle, holder: str) -> AbstractContextManager[Factors]:
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
            return load_factors(adapter.path, bundle.shapes, self.device)

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
        self.name = config.folder.name
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
        self, job: GenerationJob, scheduler: Any, eta: float, on_step: OnStep | None, clock: Stopwatch
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
