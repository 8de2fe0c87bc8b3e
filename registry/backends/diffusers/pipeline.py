"""A diffusers pipeline bound to a bundle, and the overlay that it wears."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import diffusers
import torch
from PIL.Image import Image
from torch import Tensor

from registry.backends.diffusers.clip import clip_tokenizer
from registry.backends.diffusers.families import KINDS
from registry.backends.diffusers.previews import fit_rgb, paint
from registry.errors import NotGenerable
from registry.holders import GoOn
from registry.pipeline_config import PipelineConfig, TokenizerRef
from registry.weights.bundle import Bundle
from registry.weights.names import canonical_sources
from registry.weights.narrow import widen_when_read
from registry.weights.overlay import Slot, Wearer


class Pipeline:
    """`text_to_image` and `image_to_image` are diffusers' pipelines over the same `modules`, which are the bundle's own memory.

    `compiler`: torch's name for what compiles the denoiser, whose weights then stay at their addresses.

    Raises NotGenerable: the tensors are not those of the configuration, or the denoiser takes more than a prompt gives; and whatever
    `go_on` raises between two components.
    """

    def __init__(
        self, bundle: Bundle, config: PipelineConfig, compiler: str | None = None, go_on: GoOn = lambda: None
    ) -> None:
        config.refuse_extra_inputs()
        self.bundle = bundle
        self.config = config
        self.name = config.origin
        self.kind = KINDS[config.pipeline]
        self.modules: dict[str, torch.nn.Module] = {}
        for name in [name for name in self.kind.parts if name in config.components]:
            go_on()
            with torch.device("meta"):
                self.modules[name] = self.kind.parts[name](config.components[name])
        self.slots: dict[str, Slot] = {}
        for component, module in self.modules.items():
            go_on()
            self.slots |= _bind(component, module, bundle, config.unused)
        self.wearer = Wearer(bundle, self.slots, stable=compiler is not None)
        if compiler is not None:
            self.modules[config.layout.denoiser].compile(backend=compiler)
        self.tokenizers = {name: _tokenizer(ref, self.kind.tokenizer(name)) for name, ref in config.tokenizers.items()}
        self.text_to_image = self._assemble(self.kind.text_to_image)

    @cached_property
    def image_to_image(self) -> Any:
        return self._assemble(self.kind.image_to_image)

    def _assemble(self, name: str) -> Any:
        layout = self.config.layout
        lacking = dict.fromkeys((*layout.optional, *(layout.tokenizers[encoder] for encoder in layout.optional)))
        parts = {**lacking, **self.modules, **self.tokenizers}
        device = self.bundle.device
        # of a property diffusers asks every module of every part, several times a picture
        kind = type(name, (getattr(diffusers, name),), {"device": device, "_execution_device": device})
        made = kind(**parts, **self.kind.extras, **self.config.options, scheduler=None)
        made.set_progress_bar_config(disable=True)
        return made

    @property
    def guidance_is_a_pass(self) -> bool:
        """False where the denoiser takes the guidance scale as an input (distilled checkpoints), and needs no second pass for it."""
        return self.kind.guided and self.config.denoiser.get("time_cond_proj_dim") is None

    def unpack(self, latents: Tensor, width: int, height: int) -> Tensor:
        """What the pipeline denoises, as [n, channels, h, w], for a picture of so many pixels."""
        scale = self.config.vae_scale
        return self.kind.unpack(latents, height // scale, width // scale)

    # -- the picture's two ends
    def encode(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Pixels [1, 3, height, width] in -1..1 to scaled latents [1, channels, height / s, width / s] of the bundle's dtype."""
        with self._precise_vae() as vae:
            latents = vae.encode(image.to(self.bundle.device, vae.dtype)).latent_dist.sample(generator)
        mean, std = self._statistics(latents)
        scaled: Tensor = (latents - mean) / std
        return scaled.to(self.bundle.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents [n, channels, h, w] to pixels [n, 3, h * s, w * s] in about -1..1.

        One at a time: the VAE's activations are the largest of all, and pictures decoded together would need them n times.
        """
        with self._precise_vae() as vae:
            mean, std = self._statistics(latents)
            scaled = (latents.to(mean.dtype) * std + mean).to(vae.dtype)
            return torch.cat([vae.decode(one[None], return_dict=False)[0] for one in scaled])

    def preview(self, latents: Tensor) -> tuple[Image, ...]:
        """A small picture of each of the scaled `latents` [n, channels, h, w], without the VAE."""
        return paint(latents, self._rgb)

    @cached_property
    def _rgb(self) -> Tensor:
        like = next(self.modules["vae"].parameters())
        return fit_rgb(self.decode, self.config.vae["latent_channels"], like)

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of a VAE's latents, as its configuration states them: per channel, or one scale and one shift."""
        vae: Any = self.modules["vae"].config
        shape = (1, -1, 1, 1)
        dtype = torch.promote_types(latents.dtype, torch.float32)
        mean = torch.tensor(vae.get("latents_mean") or [vae.get("shift_factor") or 0.0], dtype=dtype)
        std = torch.tensor(vae.get("latents_std") or [1.0], dtype=dtype) / vae["scaling_factor"]
        return mean.view(shape).to(latents.device), std.view(shape).to(latents.device)

    @contextmanager
    def _precise_vae(self) -> Iterator[Any]:
        """The VAE, in float32 where it overflows in float16 (SDXL's, unless its configuration takes `force_upcast` back)."""
        vae: Any = self.modules["vae"]
        upcast = self.kind.vae_overflows and vae.dtype == torch.float16 and vae.config.force_upcast
        own = [(parameter, parameter.data) for parameter in vae.parameters()] if upcast else []
        try:
            if upcast:
                vae.to(torch.float32)  # which memory may end half-way
            yield vae
        finally:
            for parameter, data in own:  # the bundle's memory again, not a copy converted back
                parameter.data = data


def _bind(component: str, module: torch.nn.Module, bundle: Bundle, unused: Collection[str]) -> dict[str, Slot]:
    """Gives a module on the meta device the bundle's own tensors, without a copy. Returns canonical name -> where it is read.

    Raises NotGenerable: names or shapes are not the configuration's.
    """
    module.requires_grad_(False).eval()
    own = {source.name: name for name, source in canonical_sources(module.state_dict(), component).items()}
    theirs = {name for name in bundle.tensors if name.startswith(f"{component}.")} - set(unused)
    tied = _tied(module)
    own |= {name: own[first] for name, first in tied.items() if own[name] not in theirs}
    if not theirs:
        raise NotGenerable(f"The checkpoint has no {component}.", component=component)
    if differing := sorted(theirs ^ set(own.values())):
        raise NotGenerable(
            f"The {component}'s tensors are not those of its configuration: {', '.join(differing[:3])} ...",
            tensors=differing,
        )
    try:
        module.load_state_dict({name: bundle.tensors[canonical] for name, canonical in own.items()}, assign=True)
    except RuntimeError as error:
        raise NotGenerable(f"The {component}'s tensors are not those of its configuration: {error}") from error
    for name, first in tied.items():  # one parameter again
        parent, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(parent), leaf, module.get_parameter(first))
    for owner in module.modules():
        if "position_ids" in owner._buffers:  # CLIP's 0, 1, 2, ...: in no file, and on meta it has no values
            count = owner.get_buffer("position_ids").shape[-1]
            owner.register_buffer(
                "position_ids", torch.arange(count, device=bundle.device).expand(1, -1), persistent=False
            )
    slots = {
        own[name]: Slot(module.get_submodule(name.rpartition(".")[0]), parameter)
        for name, parameter in module.named_parameters()
    }
    for name, owner in module.named_modules():
        if (weight := own.get(f"{name}.weight")) is not None:
            widen_when_read(owner, bundle.dtype_of(weight), bundle.scales.get(weight, 1.0))
    return slots


def _tied(module: torch.nn.Module) -> dict[str, str]:
    """Further names of parameters that have several, which files have once: T5's word embedding."""
    first: dict[int, str] = {}
    names = [(name, first.setdefault(id(p), name)) for name, p in module.named_parameters(remove_duplicate=False)]
    return {name: original for name, original in names if name != original}


def _tokenizer(ref: TokenizerRef, made_by: Any) -> Any:
    if ref.folder is None:
        return clip_tokenizer(ref.pad, ref.length)
    return made_by.from_pretrained(str(ref.folder), local_files_only=True)
