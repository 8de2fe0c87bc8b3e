"""Tiny checkpoints of every family that can be run: real classes, random weights, as a folder and as one LDM file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from registry.family_configs import FAMILY_CONFIGS, FamilyConfig
from registry.pipeline_config import TokenizerRef
from tests.registry import tiny

TEXT = tiny.TEXT | {"max_position_embeddings": tiny.CONTEXT}
LINEAR = {"use_linear_projection": True, "attention_head_dim": (2, 4)}
UNETS: Mapping[str, dict[str, Any]] = {
    "sd-1": {**tiny.UNET, "attention_head_dim": 2},
    "sd-2": {**tiny.UNET, **LINEAR},
    "sdxl": {
        **tiny.UNET,
        **LINEAR,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),  # SDXL has no attention at its first level
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2),
        "cross_attention_dim": 48,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24 + 6 * 8,
    },
}
PIPELINES = {"sd-1": "StableDiffusionPipeline", "sd-2": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}


@dataclass(frozen=True)
class TinyFamily:
    """`table`: a family table in which these sizes are the published ones, with the folder's tokenizers."""

    name: str
    folder: Path
    single: Path
    table: Mapping[str, FamilyConfig]


def build(name: str, root: Path, **scheduler: Any) -> TinyFamily:
    """`scheduler`: changes of the family's published scheduler configuration."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(1)
    family = FAMILY_CONFIGS[name]
    folder = root / name
    tokenizers = {slot: tiny.tokenizer(folder / slot) for slot in family.tokenizers}
    texts = {}
    for encoder, config in family.components.items():
        if encoder.startswith("text_encoder"):
            size = len(tokenizers["tokenizer"])
            texts[encoder] = {**TEXT, "vocab_size": size, "eos_token_id": size - 1, "hidden_act": config["hidden_act"]}
    parts: dict[str, Any] = {
        encoder: (CLIPTextModelWithProjection if encoder == "text_encoder_2" else CLIPTextModel)(
            CLIPTextConfig(**config)
        ).eval()
        for encoder, config in texts.items()
    }
    config = {**family.scheduler, **scheduler}
    pipe = getattr(diffusers, PIPELINES[name])(
        unet=diffusers.UNet2DConditionModel(**UNETS[name]),
        vae=diffusers.AutoencoderKL(**tiny.VAE, scaling_factor=family.components["vae"]["scaling_factor"]),
        scheduler=getattr(diffusers, config["_class_name"]).from_config(config),
        **parts,
        **tokenizers,
        **(
            {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
            if name != "sdxl"
            else {}
        ),
    )
    pipe.save_pretrained(folder)
    single = root / f"{name}.safetensors"
    save_file(_single_file(name, folder), single)
    small = replace(
        family,
        components={
            "unet": UNETS[name],
            "vae": {**tiny.VAE, "scaling_factor": family.components["vae"]["scaling_factor"]},
            **texts,
        },
        tokenizers={slot: TokenizerRef(folder / slot) for slot in family.tokenizers},
        scheduler=config,
        sizes={"unet.conv_in.weight": (16, 4, 3, 3)},
        v_prediction={"unet": {"sample_size": 12}} if family.v_prediction else {},
        unused=tuple(prefix.replace("layers.23.", "layers.2.") for prefix in family.unused),
    )
    return TinyFamily(name, folder, single, {name: small})


def _single_file(name: str, folder: Path) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    levels = {"levels": 2, "attended": frozenset({0}) if name == "sdxl" else frozenset({1})}
    for key, tensor in load_file(folder / "unet" / "diffusion_pytorch_model.safetensors").items():
        if key.startswith("add_embedding.linear_"):
            out[re.sub(r"add_embedding\.linear_(\d)", _label, f"model.diffusion_model.{key}")] = tensor
        else:
            out[tiny.ldm_name(f"unet.{key}", **levels)] = tensor
    for key, tensor in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        stored = tiny.ldm_name(f"vae.{key}")
        convolution = re.search(r"attn_1\.(q|k|v|proj_out)\.weight", stored)
        out[stored] = tensor[:, :, None, None].contiguous() if convolution else tensor
    first = load_file(folder / "text_encoder" / "model.safetensors")
    if name == "sd-2":
        # OpenCLIP stores one layer more than Stable Diffusion 2 reads, and a projection
        extra = {
            re.sub(r"layers\.1\.", "layers.2.", key): tensor + 1 for key, tensor in first.items() if "layers.1." in key
        }
        first |= extra | {"text_projection.weight": torch.ones(24, 24)}
        out |= _open_clip(first, "cond_stage_model.model.")
    else:
        prefix = "conditioner.embedders.0.transformer." if name == "sdxl" else "cond_stage_model.transformer."
        out |= {prefix + _with_text_model(key): tensor for key, tensor in first.items()}
    if name == "sdxl":
        second = load_file(folder / "text_encoder_2" / "model.safetensors")
        out |= _open_clip(second, "conditioner.embedders.1.model.") | {
            "conditioner.embedders.1.model.logit_scale": torch.tensor(4.6)
        }
    return out


def _label(match: re.Match[str]) -> str:
    return f"label_emb.0.{2 * (int(match[1]) - 1)}"


def _with_text_model(key: str) -> str:
    return key if key.startswith(("text_model.", "text_projection.")) else f"text_model.{key}"


def _open_clip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """A CLIP text model as OpenCLIP stores it: q, k and v fused, the projection transposed."""
    names = {
        "embeddings.position_embedding.weight": "positional_embedding",
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "final_layer_norm": "ln_final",
        "layer_norm": "ln_",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
        "encoder.layers.": "transformer.resblocks.",
    }
    out: dict[str, Tensor] = {}
    fused: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        key = key.removeprefix("text_model.")
        if key == "text_projection.weight":
            out[f"{prefix}text_projection"] = tensor.T.contiguous()
        elif match := re.match(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", key):
            fused.setdefault(f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}", {})[match[2]] = tensor
        else:
            for old, new in names.items():
                key = key.replace(old, new)
            out[prefix + key] = tensor
    return out | {prefix + key: torch.cat([parts[part] for part in "qkv"]) for key, parts in fused.items()}
