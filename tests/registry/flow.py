"""Tiny checkpoints of the families whose denoiser is a transformer trained by flow matching: real classes, random weights, as folders."""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tests.registry import tiny

TEXT = {**tiny.TEXT, "max_position_embeddings": tiny.CONTEXT}
VAE = {
    **tiny.VAE,
    "latent_channels": 4,
    "scaling_factor": 1.5,
    "shift_factor": 0.06,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
SD3 = {
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": 48,
    "caption_projection_dim": 16,
    "pooled_projection_dim": 48,
    "pos_embed_max_size": 16,
}
FLUX = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 48,
    "pooled_projection_dim": 24,
    "axes_dims_rope": (4, 4, 8),
    "guidance_embeds": True,
}
PIPELINES: Mapping[str, str] = {"sd-3": "StableDiffusion3Pipeline", "flux-1": "FluxPipeline"}


def build(family: str, folder: Path, *, t5: bool = True, **denoiser: Any) -> Path:
    """`t5` False: SD 3 without its third text encoder. `denoiser`: changes of the transformer's configuration."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

    torch.manual_seed(2)
    words = tiny.tokenizer(folder / "tokenizer")
    size = len(words)
    text = CLIPTextConfig(**TEXT, vocab_size=size, eos_token_id=size - 1)
    pieces = _t5_tokenizer()
    big = T5EncoderModel(
        T5Config(vocab_size=len(pieces), d_model=48, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu")
    ).eval()  # fmt: skip
    vae = diffusers.AutoencoderKL(**VAE)
    if family == "sd-3":
        parts: dict[str, Any] = {
            "transformer": diffusers.SD3Transformer2DModel(**{**SD3, **denoiser}),
            "text_encoder": CLIPTextModelWithProjection(text).eval(),
            "text_encoder_2": CLIPTextModelWithProjection(text).eval(),
            "text_encoder_3": big if t5 else None,
            "tokenizer_2": words,
            "tokenizer_3": pieces if t5 else None,
        }
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    else:
        parts = {
            "transformer": diffusers.FluxTransformer2DModel(**{**FLUX, **denoiser}),
            "text_encoder": CLIPTextModel(text).eval(),
            "text_encoder_2": big,
            "tokenizer_2": pieces,
        }
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    for parameter in parts["transformer"].parameters():
        torch.nn.init.normal_(parameter, std=0.08)  # some begin at 0, and would hide what is added to them
    pipe = getattr(diffusers, PIPELINES[family])(vae=vae, tokenizer=words, scheduler=scheduler, **parts)
    pipe.save_pretrained(folder)
    return folder


def _t5_tokenizer() -> Any:
    from transformers import T5TokenizerFast

    letters = ["▁", *string.ascii_lowercase, *string.digits, *(f"▁{letter}" for letter in string.ascii_lowercase)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -2.0) for letter in letters)]
    return T5TokenizerFast(vocab=vocabulary, extra_ids=0)
