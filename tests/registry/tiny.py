"""Real Stable Diffusion classes with random weights and small numbers, and LoRA files for them in every published layout."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 2,
    "cross_attention_dim": 24,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
VAE = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "sample_size": 16,
}
TEXT = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 24,
}
CONTEXT = 16  # tokens of a prompt

ATTENTION = r"unet\..*\.attn[12]\.to_(q|k|v|out\.0)\.weight"
EVERYTHING = (
    r"unet\..*(to_q|to_k|to_v|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2"
    r"|conv1|conv2|conv_shortcut|time_emb_proj|\.conv)\.weight"
)
"""The target modules of a published LCM-LoRA."""
TEXT_ENCODER = r"text_encoder\..*(q_proj|k_proj|v_proj|out_proj|fc1|fc2)\.weight"


@dataclass(frozen=True)
class Tiny:
    """`folder`: diffusers layout; `single`: the same tensors as one LDM file; `tensors`: canonical name -> float32 tensor."""

    folder: Path
    single: Path
    tensors: Mapping[str, Tensor]


def build(root: Path) -> Tiny:
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    folder = root / "tiny"
    words = tokenizer(folder / "tokenizer")
    text = CLIPTextConfig(vocab_size=len(words), max_position_embeddings=CONTEXT, **TEXT)
    pipe = StableDiffusionPipeline(
        unet=UNet2DConditionModel(**UNET),
        vae=AutoencoderKL(**VAE),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=words,
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            steps_offset=1,
            set_alpha_to_one=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    stored = {
        "unet": load_file(folder / "unet" / "diffusion_pytorch_model.safetensors"),
        "vae": load_file(folder / "vae" / "diffusion_pytorch_model.safetensors"),
        "text_encoder": load_file(folder / "text_encoder" / "model.safetensors"),
    }
    tensors = {
        f"{component}.{'text_model.' if component == 'text_encoder' and not name.startswith('text_model.') else ''}{name}": tensor
        for component, part in stored.items()
        for name, tensor in part.items()
    }
    single = root / "tiny.safetensors"
    save_file(ldm_layout(tensors), single)
    return Tiny(folder, single, tensors)


def tokenizer(folder: Path):
    """CLIP's byte-level BPE with no merges: every byte is a token."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True)
    letters = sorted(ByteLevel.alphabet())
    entries = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({entry: i for i, entry in enumerate(entries)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=CONTEXT)


def ldm_layout(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Canonical tensors as the single file of the original Stable Diffusion code, with what such files have besides."""
    out = {ldm_name(name): tensor for name, tensor in tensors.items()}
    for name, tensor in out.items():
        if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name):
            out[name] = tensor[:, :, None, None].contiguous()
    out["alphas_cumprod"] = torch.linspace(1, 0, 1000)
    out["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(CONTEXT)[None]
    out["model_ema.decay"] = torch.tensor(0.9999)
    return out


def ldm_name(canonical: str, levels: int = 2, layers: int = 2, attended: frozenset[int] = frozenset({1})) -> str:
    """As Hugging Face's `convert_diffusers_to_original_stable_diffusion.py` does it; `attended`: up levels with attention."""
    component, _, name = canonical.partition(".")
    if component == "text_encoder":
        return f"cond_stage_model.transformer.{name}"
    if component == "vae":
        return f"first_stage_model.{ldm_vae(name, levels)}"
    for old, new in {
        "conv_in.": "input_blocks.0.0.",
        "conv_norm_out.": "out.0.",
        "conv_out.": "out.2.",
        "time_embedding.linear_1.": "time_embed.0.",
        "time_embedding.linear_2.": "time_embed.2.",
    }.items():
        if name.startswith(old):
            return f"model.diffusion_model.{new}{name.removeprefix(old)}"
    for old, new in {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "time_emb_proj": "emb_layers.1",
        "conv_shortcut": "skip_connection",
    }.items():
        if ".resnets." in name:
            name = name.replace(f".{old}.", f".{new}.")
    step = layers + 1
    name = re.sub(
        r"down_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"input_blocks.{step * int(m[1]) + int(m[2]) + 1}.0", name
    )
    name = re.sub(
        r"down_blocks\.(\d+)\.attentions\.(\d+)", lambda m: f"input_blocks.{step * int(m[1]) + int(m[2]) + 1}.1", name
    )
    name = re.sub(
        r"down_blocks\.(\d+)\.downsamplers\.0\.conv", lambda m: f"input_blocks.{step * (int(m[1]) + 1)}.0.op", name
    )
    name = re.sub(
        r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"output_blocks.{step * int(m[1]) + int(m[2])}.0", name
    )
    name = re.sub(
        r"up_blocks\.(\d+)\.attentions\.(\d+)", lambda m: f"output_blocks.{step * int(m[1]) + int(m[2])}.1", name
    )
    name = re.sub(
        r"up_blocks\.(\d+)\.upsamplers\.0",
        lambda m: f"output_blocks.{step * int(m[1]) + layers}.{2 if int(m[1]) in attended else 1}",
        name,
    )
    for old, new in {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}.items():
        name = name.replace(f"mid_block.{old}.", f"middle_block.{new}.")
    return f"model.diffusion_model.{name}"


def ldm_vae(name: str, levels: int) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{levels - 1 - int(m[1])}.block.", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
    for old, new in {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}.items():
        name = name.replace(f"mid_block.attentions.0.{old}.", f"mid.attn_1.{new}.")
    return name


def lora(
    tensors: Mapping[str, Tensor],
    targets: str,
    *,
    layout: str,
    rank: int = 4,
    alpha: float | None = None,
    seed: int = 1,
) -> dict[str, Tensor]:
    """A random LoRA for the canonical weights that match `targets`.

    `layout`: `kohya`, `kohya-ldm`, `kohya-lycoris` (with `lora_mid` at 3x3 convolutions), `diffusers`, `diffusers-old` or `peft`.
    """
    random = torch.Generator().manual_seed(seed)
    out: dict[str, Tensor] = {}
    for weight, base in tensors.items():
        if not re.fullmatch(targets, weight):
            continue
        kernel = tuple(base.shape[2:])
        parts = {"down": torch.randn(rank, base.shape[1], *kernel, generator=random) / 4}
        parts["up"] = torch.randn(base.shape[0], rank, *(1 for _ in kernel), generator=random) / 4
        if layout == "kohya-lycoris" and kernel == (3, 3):
            parts["mid"] = torch.randn(rank, rank, 3, 3, generator=random) / 4
            parts["down"] = parts["down"][:, :, :1, :1].contiguous()
        module = weight.removesuffix(".weight")
        out |= {lora_key(module, role, layout): tensor for role, tensor in parts.items()}
        if alpha is not None:
            out[lora_key(module, "alpha", layout)] = torch.tensor(alpha)
    return out


def lora_key(module: str, role: str, layout: str) -> str:
    component, _, name = module.partition(".")
    if layout.startswith("kohya"):
        if layout == "kohya-ldm" and component == "unet":
            name = ldm_name(f"{module}.").removeprefix("model.diffusion_model.").removesuffix(".")
        prefix = "lora_unet_" if component == "unet" else "lora_te_"
        return prefix + name.replace(".", "_") + (".alpha" if role == "alpha" else f".lora_{role}.weight")
    if layout == "peft":
        return f"base_model.model.{name}.{'lora_A' if role == 'down' else 'lora_B'}.weight"
    if layout == "diffusers-old":
        parent, _, leaf = name.removesuffix(".0").rpartition(".")
        return f"unet.{parent}.processor.{leaf}_lora.{role}.weight"
    infix = "lora" if component == "unet" else "lora_linear_layer"
    if component == "text_encoder" or re.search(r"\.attn\d\.to_(q|k|v|out\.0)$", name):
        return f"{module}.{infix}.{role}.weight"
    return f"{module}.{'lora_A' if role == 'down' else 'lora_B'}.weight"  # diffusers leaves all but attention in PEFT's spelling
