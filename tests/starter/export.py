"""Writes the trained starters in the layouts that real models are published in, all in fp16.

The base as a diffusers folder and as one LDM-named single file; the LoRAs as little repositories. Cards
(README.md) are written by hand and kept. Each repository is built beside its place and renamed into it.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from tests.starter import models

REPOS = Path(__file__).resolve().parents[2] / "registry" / "starter" / "repos" / "modelshelf"
Tensors = dict[str, torch.Tensor]

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def half(tensors: Tensors) -> Tensors:
    return {name: value.detach().to(torch.float16).contiguous().clone() for name, value in tensors.items()}


def unet_to_ldm(unet: Tensors, layers: int) -> Tensors:
    """diffusers' UNet names to the published ``model.diffusion_model.*`` names; ``layers`` a block."""
    out: Tensors = {}
    for name, value in unet.items():
        parts = name.split(".")
        if parts[0] == "mid_block":
            place = {"resnets.0": 0, "attentions.0": 1, "resnets.1": 2}[".".join(parts[1:3])]
            head, rest, kind = f"middle_block.{place}", parts[3:], parts[1]
        elif parts[0] in ("down_blocks", "up_blocks"):
            block, kind, layer, rest = int(parts[1]), parts[2], int(parts[3]), parts[4:]
            sub = {"resnets": 0, "attentions": 1}
            if parts[0] == "down_blocks":
                head = f"input_blocks.{1 + block * (layers + 1) + layer}.{sub.get(kind, 0)}"
                if kind == "downsamplers":
                    head, rest = f"input_blocks.{(block + 1) * (layers + 1)}.0.op", rest[1:]
            else:
                head = f"output_blocks.{block * (layers + 1) + layer}.{sub.get(kind, 2)}"
                if kind == "upsamplers":
                    head = f"output_blocks.{block * (layers + 1) + layers}.2"
        else:
            stem, leaf = name.rsplit(".", 1)
            out[f"model.diffusion_model.{OUTER[stem]}.{leaf}"] = value
            continue
        if kind == "resnets":
            rest = [RESNET[rest[0]], *rest[1:]]
        out[f"model.diffusion_model.{head}." + ".".join(rest)] = value
    return out


def vae_to_ldm(vae: Tensors, levels: int) -> Tensors:
    """diffusers' VAE names to the published ``first_stage_model.*`` names."""
    out: Tensors = {}
    for name, value in vae.items():
        new = re.sub(r"decoder\.up_blocks\.(\d+)", lambda m: f"decoder.up.{levels - 1 - int(m[1])}", name)
        new = new.replace("encoder.down_blocks.", "encoder.down.").replace("resnets.", "block.")
        new = new.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        new = re.sub(r"mid_block\.block\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        if "mid_block.attentions.0." in new:
            side, inner = new.split("mid_block.attentions.0.")
            stem, leaf = inner.rsplit(".", 1)
            new = f"{side}mid.attn_1.{VAE_ATTENTION[stem]}.{leaf}"
            if leaf == "weight" and value.ndim == 2:
                value = value[:, :, None, None]
        out[f"first_stage_model.{new}"] = value
    return out


def text_to_published(text: Tensors) -> Tensors:
    """transformers 5 drops the ``text_model.`` prefix that every published file has; put it back."""
    return {name if name.startswith("text_model.") else f"text_model.{name}": value for name, value in text.items()}


def single_file(unet: UNet2DConditionModel, vae: AutoencoderKL, text: CLIPTextModel) -> Tensors:
    tensors = unet_to_ldm(unet.state_dict(), unet.config.layers_per_block)
    tensors |= vae_to_ldm(vae.state_dict(), len(vae.config.block_out_channels))
    tensors |= {f"cond_stage_model.transformer.{k}": v for k, v in text_to_published(text.state_dict()).items()}
    return half(tensors)


class Placed:
    """A temporary folder beside ``place`` that takes its name when the block ends well; the card is kept."""

    def __init__(self, place: Path) -> None:
        self.place, self.new = place, place.with_name(f".{place.name}.new")

    def __enter__(self) -> Path:
        shutil.rmtree(self.new, ignore_errors=True)
        self.new.mkdir(parents=True)
        return self.new

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            shutil.rmtree(self.new, ignore_errors=True)
            return
        if (self.place / "README.md").exists():
            shutil.copy(self.place / "README.md", self.new / "README.md")
        old = self.place.with_name(f".{self.place.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.place.exists():
            self.place.rename(old)
        self.new.rename(self.place)
        shutil.rmtree(old, ignore_errors=True)


def scheduler() -> DDIMScheduler:
    """What a Stable Diffusion 1 folder says, with clip_sample off so that no sampler inherits clipping."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        **models.BETAS,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
        timestep_spacing="leading",
    )


def export_base(
    unet: UNet2DConditionModel, vae: AutoencoderKL, text: CLIPTextModel, tokenizer: Path, repos: Path = REPOS
) -> None:
    plain = torch.contiguous_format
    unet = unet.to(torch.float16, memory_format=plain)
    vae, text = vae.to(torch.float16, memory_format=plain), text.to(torch.float16)
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=CLIPTokenizer.from_pretrained(tokenizer),
        unet=unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with Placed(repos / "starter-base") as folder:
        pipe.save_pretrained(folder)
        weights = folder / "text_encoder" / "model.safetensors"
        save_file(half(text_to_published(load_file(weights))), weights, metadata={"format": "pt"})
        # As in the published folders, so that a load that names no dtype gets one dtype throughout.
        config = folder / "text_encoder" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(tokenizer / name, folder / "tokenizer" / name)
        save_file(single_file(unet, vae, text), folder / "starter-base.safetensors", metadata={"format": "pt"})


def to_kohya(layers: Tensors, prefix: str, alpha: float) -> Tensors:
    """peft names (``a.b.lora_A.weight``) to kohya names (``lora_unet_a_b.lora_down.weight`` and ``.alpha``)."""
    out: Tensors = {}
    for name, value in layers.items():
        module, side = re.fullmatch(r"(.+)\.lora_([AB])\.weight", name).groups()
        stem = f"{prefix}_{module.replace('.', '_')}"
        out[f"{stem}.{'lora_down' if side == 'A' else 'lora_up'}.weight"] = value
        out[f"{stem}.alpha"] = torch.tensor(alpha)
    return half(out)


def export_style(layers: Tensors, repos: Path = REPOS) -> None:
    """The diffusers layout, by diffusers' own writer; ``layers`` in peft names, alpha = rank."""
    with Placed(repos / "starter-outline-lora") as folder:
        # The writer's own renaming covers attention keys only, so the peft names go in as they are.
        StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=half(layers))


def export_heart(unet: Tensors, text: Tensors, alpha: float, metadata: dict[str, object], repos: Path = REPOS) -> None:
    """kohya's layout with its ``ss_*`` metadata; both halves in peft names."""
    text = {name if name.startswith("text_model.") else f"text_model.{name}": v for name, v in text.items()}
    tensors = to_kohya(unet, "lora_unet", alpha) | to_kohya(text, "lora_te", alpha)
    said = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    with Placed(repos / "starter-heart-lora") as folder:
        save_file(tensors, folder / "starter-heart.safetensors", metadata=said)


def export_lcm(layers: Tensors, alpha: float, repos: Path = REPOS) -> None:
    """The layout of the published LCM-LoRAs: kohya names in pytorch_lora_weights.safetensors, UNet only."""
    with Placed(repos / "starter-lcm-lora") as folder:
        save_file(
            to_kohya(layers, "lora_unet", alpha),
            folder / "pytorch_lora_weights.safetensors",
            metadata={"format": "pt"},
        )
