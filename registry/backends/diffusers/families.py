"""How each pipeline is built and called: one entry each. What the entries share is in pipeline.py and sampling.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from registry.pipeline_config import Json

Encoded = dict[str, Tensor]
"""Arguments of a pipeline's call, each [1, ...]."""


@dataclass(frozen=True)
class Kind:
    """`parts`: component -> its module, made from its configuration. `extras`: further arguments of the pipelines. `encode(pipeline,
    prompt, negative, guided)`: text to arguments of the call. `vae_overflows`: the VAE overflows in float16 and runs in float32."""

    text_to_image: str
    image_to_image: str
    parts: Mapping[str, Callable[[Json], torch.nn.Module]]
    encode: Callable[[Any, str, str, bool], Encoded]
    extras: Mapping[str, Any] = field(default_factory=dict)
    vae_overflows: bool = False


def _unet(config: Json) -> Any:
    return diffusers.UNet2DConditionModel.from_config(dict(config))


def _vae(config: Json) -> Any:
    return diffusers.AutoencoderKL.from_config(dict(config))


def _clip(config: Json) -> Any:
    return CLIPTextModel(CLIPTextConfig.from_dict(dict(config)))


def _clip_with_projection(config: Json) -> Any:
    return CLIPTextModelWithProjection(CLIPTextConfig.from_dict(dict(config)))


def _encode_sd(pipe: Any, prompt: str, negative: str, guided: bool) -> Encoded:
    positive, other = pipe.encode_prompt(prompt, pipe.device, 1, guided, negative or None)
    return {"prompt_embeds": positive} | ({"negative_prompt_embeds": other} if guided else {})


def _encode_sdxl(pipe: Any, prompt: str, negative: str, guided: bool) -> Encoded:
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    values = pipe.encode_prompt(
        prompt, device=pipe.device, do_classifier_free_guidance=guided, negative_prompt=negative or None
    )
    return {name: value for name, value in zip(names, values, strict=True) if guided or "negative" not in name}


KINDS: Mapping[str, Kind] = {
    "StableDiffusionPipeline": Kind(
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        {"unet": _unet, "vae": _vae, "text_encoder": _clip},
        _encode_sd,
        {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    ),
    "StableDiffusionXLPipeline": Kind(
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        {"unet": _unet, "vae": _vae, "text_encoder": _clip, "text_encoder_2": _clip_with_projection},
        _encode_sdxl,
        {"add_watermarker": False},
        vae_overflows=True,
    ),
}
"""By the pipeline's name in `registry.pipeline_config.LAYOUTS`."""
