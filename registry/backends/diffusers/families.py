"""How each pipeline is built and called: one entry each. What the entries share is in pipeline.py and sampling.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from registry.pipeline_config import Json

Encoded = dict[str, Tensor]
"""Arguments of a pipeline's call, each [1, ...]."""


@dataclass(frozen=True, slots=True)
class Part:
    """A component's class, in transformers beside that of its configuration."""

    made_of: Any
    config: Any = None

    def __call__(self, config: Json) -> torch.nn.Module:
        if self.config is None:
            made: torch.nn.Module = self.made_of.from_config(dict(config))
        else:
            made = self.made_of(self.config.from_dict(dict(config)))
        return made

    def precise(self, dtype: torch.dtype) -> frozenset[str]:
        """Names within it that stay float32 in a model of `dtype`, as the class itself states: T5's `wo` overflows in float16."""
        lists = {torch.float16: (_PRECISE, f"{_PRECISE}_strict"), torch.bfloat16: (f"{_PRECISE}_strict",)}
        return frozenset().union(*(getattr(self.made_of, name, None) or () for name in lists.get(dtype, ())))


_PRECISE = "_keep_in_fp32_modules"
_UNET = Part(diffusers.UNet2DConditionModel)
_VAE = Part(diffusers.AutoencoderKL)
_CLIP = Part(CLIPTextModel, CLIPTextConfig)
_CLIP_WITH_PROJECTION = Part(CLIPTextModelWithProjection, CLIPTextConfig)
_T5 = Part(T5EncoderModel, T5Config)
_SD3 = Part(diffusers.SD3Transformer2DModel)
_FLUX = Part(diffusers.FluxTransformer2DModel)


@dataclass(frozen=True)
class Kind:
    """`parts`: component -> what makes its module from its configuration. `extras`: further arguments of the pipelines. `encode(pipeline,
    prompt, negative, guided)`: text to arguments of the call. `tokenizers`: their classes, where not CLIP's. `reads`: the tokenizer that
    sees most of a prompt, and how many tokens (None: as many as it says itself). `guided`: there may be a second pass for guidance.
    `own_sigmas`: the pipeline states the noise levels. `unpack(latents, height, width)`: what it denoises as [n, channels, height, width].
    `vae_overflows`: the VAE overflows in float16 and runs in float32."""

    text_to_image: str
    image_to_image: str
    parts: Mapping[str, Part]
    encode: Callable[[Any, str, str, bool], Encoded]
    extras: Mapping[str, Any] = field(default_factory=dict)
    vae_overflows: bool = False
    tokenizers: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[str, int | None] = ("tokenizer", None)
    guided: bool = True
    own_sigmas: bool = False
    unpack: Callable[[Tensor, int, int], Tensor] = lambda latents, height, width: latents

    def tokenizer(self, name: str) -> Any:
        return self.tokenizers.get(name, CLIPTokenizer)

    def precise(self, dtype: torch.dtype) -> Callable[[str], bool]:
        """Whether the tensor of a canonical name stays float32 in a bundle of `dtype`."""
        kept = [
            (f"{component}.", f".{name}.") for component, part in self.parts.items() for name in part.precise(dtype)
        ]
        return lambda tensor: any(tensor.startswith(component) and name in tensor for component, name in kept)


def _encode_sd(pipe: Any, prompt: str, negative: str, guided: bool) -> Encoded:
    positive, other = pipe.encode_prompt(prompt, pipe.device, 1, guided, negative or None)
    return {"prompt_embeds": positive} | ({"negative_prompt_embeds": other} if guided else {})


def _encode_sdxl(pipe: Any, prompt: str, negative: str, guided: bool) -> Encoded:
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    values = pipe.encode_prompt(
        prompt, device=pipe.device, do_classifier_free_guidance=guided, negative_prompt=negative or None
    )
    return {name: value for name, value in zip(names, values, strict=True) if guided or "negative" not in name}


def _encode_sd3(pipe: Any, prompt: str, negative: str, guided: bool) -> Encoded:
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    values = pipe.encode_prompt(
        prompt,
        None,
        None,
        device=pipe.device,
        do_classifier_free_guidance=guided,
        negative_prompt=negative or None,
        max_sequence_length=_SD3_TOKENS,
    )
    return {name: value for name, value in zip(names, values, strict=True) if guided or "negative" not in name}


def _encode_flux(pipe: Any, prompt: str, negative: str, guided: bool) -> Encoded:
    embeds, pooled, _ = pipe.encode_prompt(prompt, device=pipe.device, max_sequence_length=_FLUX_TOKENS)
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


def _unpack_flux(latents: Tensor, height: int, width: int) -> Tensor:
    """[n, height / 2 * width / 2, channels * 4], patches of 2x2, to [n, channels, height, width]."""
    patches = latents.view(len(latents), height // 2, width // 2, -1, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(len(latents), -1, height, width)


_SD3_TOKENS, _FLUX_TOKENS = 256, 512
"""That T5 reads, as the pipelines have it; CLIP beside it reads 77."""

KINDS: Mapping[str, Kind] = {
    "StableDiffusionPipeline": Kind(
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        {"unet": _UNET, "vae": _VAE, "text_encoder": _CLIP},
        _encode_sd,
        {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    ),
    "StableDiffusionXLPipeline": Kind(
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        {"unet": _UNET, "vae": _VAE, "text_encoder": _CLIP, "text_encoder_2": _CLIP_WITH_PROJECTION},
        _encode_sdxl,
        {"add_watermarker": False},
        vae_overflows=True,
    ),
    "StableDiffusion3Pipeline": Kind(
        "StableDiffusion3Pipeline",
        "StableDiffusion3Img2ImgPipeline",
        {
            "transformer": _SD3,
            "vae": _VAE,
            "text_encoder": _CLIP_WITH_PROJECTION,
            "text_encoder_2": _CLIP_WITH_PROJECTION,
            "text_encoder_3": _T5,
        },
        _encode_sd3,
        tokenizers={"tokenizer_3": T5TokenizerFast},
        reads=("tokenizer_3", _SD3_TOKENS),
    ),
    "FluxPipeline": Kind(
        "FluxPipeline",
        "FluxImg2ImgPipeline",
        {"transformer": _FLUX, "vae": _VAE, "text_encoder": _CLIP, "text_encoder_2": _T5},
        _encode_flux,
        tokenizers={"tokenizer_2": T5TokenizerFast},
        reads=("tokenizer_2", _FLUX_TOKENS),
        guided=False,
        own_sigmas=True,
        unpack=_unpack_flux,
    ),
}
"""By the pipeline's name in `registry.pipeline_config.LAYOUTS`."""
