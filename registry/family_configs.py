"""The configurations of the published families: a single file has tensors only, and these say how to run them.

Each is what the family's own diffusers repository states (stable-diffusion-v1-5, stable-diffusion-2, stable-diffusion-2-base,
stable-diffusion-xl-base-1.0). Checkpoints of other sizes run with an installed folder's configuration instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from probes import TensorSpec
from registry.pipeline_config import Json, PipelineConfig, TokenizerRef

CLIP_TOKENS = 49408
"""Entries of CLIP's vocabulary: 256 bytes, each also as the end of a word, 48,894 merges, two marks."""


@dataclass(frozen=True, slots=True)
class FamilyConfig:
    """`sizes`: canonical tensors whose shapes tell that a file has the published sizes. `v_prediction`: changes for a checkpoint that
    predicts v, by component. `unused`: beginnings of the canonical names of tensors that the pipeline does not use."""

    pipeline: str
    components: Mapping[str, Json]
    tokenizers: Mapping[str, TokenizerRef]
    scheduler: Json
    sizes: Mapping[str, tuple[int, ...]]
    v_prediction: Mapping[str, Json] = field(default_factory=dict)
    options: Json = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    def fits(self, tensors: Mapping[str, TensorSpec]) -> bool:
        return all(name in tensors and tensors[name].shape == shape for name, shape in self.sizes.items())


ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
"""For a checkpoint trained to zero terminal SNR: sampling must begin at the last timestep, which only trailing spacing does
(https://arxiv.org/abs/2305.08891)."""

_CLIP_L = {
    "vocab_size": CLIP_TOKENS,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
# OpenCLIP ViT-H/14 without its last layer: Stable Diffusion 2 takes the penultimate one's output, normalised.
_OPEN_CLIP_H = {
    **_CLIP_L,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 512,
}
_OPEN_CLIP_G = {
    **_CLIP_L,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
_UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
_NOISE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "prediction_type": "epsilon",
}
_BANG = TokenizerRef(pad="!")  # OpenCLIP pads with token 0
_TOKENS_L = ("text_encoder.text_model.embeddings.token_embedding.weight", (CLIP_TOKENS, 768))
_VAE_WIDTH = ("vae.encoder.conv_in.weight", (128, 3, 3, 3))
_UNET_WIDTH = ("unet.conv_in.weight", (320, 4, 3, 3))

FAMILY_CONFIGS: Mapping[str, FamilyConfig] = {
    "sd-1": FamilyConfig(
        "StableDiffusionPipeline",
        {"unet": _UNET, "vae": _VAE, "text_encoder": _CLIP_L},
        {"tokenizer": TokenizerRef()},
        {**_NOISE, "_class_name": "PNDMScheduler", "skip_prk_steps": True},
        dict([_UNET_WIDTH, _VAE_WIDTH, _TOKENS_L]),
    ),
    "sd-2": FamilyConfig(
        "StableDiffusionPipeline",
        {
            # 2.1's attention overflows in float16 unless it is computed in float32
            "unet": {
                **_UNET,
                "attention_head_dim": [5, 10, 20, 20],
                "cross_attention_dim": 1024,
                "use_linear_projection": True,
                "upcast_attention": True,
            },
            "vae": _VAE,
            "text_encoder": _OPEN_CLIP_H,
        },
        {"tokenizer": _BANG},
        {**_NOISE, "_class_name": "DDIMScheduler"},
        dict(
            [
                _UNET_WIDTH,
                _VAE_WIDTH,
                ("text_encoder.text_model.embeddings.token_embedding.weight", (CLIP_TOKENS, 1024)),
            ]
        ),
        v_prediction={"unet": {"sample_size": 96}},  # the v model is the 768 one
        unused=("text_encoder.text_model.encoder.layers.23.", "text_encoder.text_projection."),
    ),
    "sdxl": FamilyConfig(
        "StableDiffusionXLPipeline",
        {
            "unet": {
                **_UNET,
                "sample_size": 128,
                "block_out_channels": [320, 640, 1280],
                "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
                "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
                "transformer_layers_per_block": [1, 2, 10],
                "attention_head_dim": [5, 10, 20],
                "cross_attention_dim": 2048,
                "use_linear_projection": True,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
            },
            "vae": {**_VAE, "sample_size": 1024, "scaling_factor": 0.13025},
            "text_encoder": _CLIP_L,
            "text_encoder_2": _OPEN_CLIP_G,
        },
        {"tokenizer": TokenizerRef(), "tokenizer_2": _BANG},
        {**_NOISE, "_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"},
        dict(
            [
                _UNET_WIDTH,
                _VAE_WIDTH,
                _TOKENS_L,
                ("text_encoder_2.text_model.embeddings.token_embedding.weight", (CLIP_TOKENS, 1280)),
            ]
        ),
        options={"force_zeros_for_empty_prompt": True},
    ),
}


def config_of_family(
    family: str,
    tensors: Mapping[str, TensorSpec],
    prediction_type: str | None,
    markers: Collection[str] = (),
    table: Mapping[str, FamilyConfig] = FAMILY_CONFIGS,
) -> PipelineConfig | None:
    """The configuration of a single file with the canonical `tensors`; None: the family is not in the table, or the sizes are others.

    `markers`: names of stored tensors that are no weights; `ztsnr` among them says that the checkpoint was trained to zero terminal SNR.
    """
    entry = table.get(family)
    if entry is None or not entry.fits(tensors):
        return None
    changes: Mapping[str, Json] = entry.v_prediction if prediction_type == "v_prediction" else {}
    return PipelineConfig(
        pipeline=entry.pipeline,
        origin=f"the {family} family",
        components={name: {**config, **changes.get(name, {})} for name, config in entry.components.items()},
        tokenizers=entry.tokenizers,
        scheduler_config={**entry.scheduler, **(ZERO_SNR if "ztsnr" in markers else {})},
        options=entry.options,
        unused=frozenset(name for name in tensors if name.startswith(entry.unused)) if entry.unused else frozenset(),
    )
