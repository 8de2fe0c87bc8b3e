"""Tiny checkpoints of the families whose denoiser is a transformer trained by flow matching: real classes, random weights, as folders."""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from registry.weights.transformers import FLUX, SD3, makers_names
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
SD3_CONFIG: dict[str, Any] = {
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
FLUX_CONFIG: dict[str, Any] = {
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
            "transformer": diffusers.SD3Transformer2DModel(**{**SD3_CONFIG, **denoiser}),
            "text_encoder": CLIPTextModelWithProjection(text).eval(),
            "text_encoder_2": CLIPTextModelWithProjection(text).eval(),
            "text_encoder_3": big if t5 else None,
            "tokenizer_2": words,
            "tokenizer_3": pieces if t5 else None,
        }
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    else:
        parts = {
            "transformer": diffusers.FluxTransformer2DModel(**{**FLUX_CONFIG, **denoiser}),
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


def write_single(family: str, folder: Path, path: Path, *, leave_out: tuple[str, ...] = ()) -> Path:
    """The tensors of `folder` as ComfyUI's file of the whole: in the maker's names, with what it writes beside what is needed."""
    made = {"flux-1": FLUX, "sd-3": SD3}[family]
    own = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    stored: dict[str, Tensor] = {"pos_embed": own["pos_embed.pos_embed"]} if "pos_embed.pos_embed" in own else {}
    modules = {name.rpartition(".")[0] for name in own}
    for theirs, ours in (*makers_names(modules), ("final_layer.adaLN_modulation.1", ("norm_out.linear",))):
        for kind in ("weight", "bias") if "processor" not in theirs else ():
            stored[f"{theirs}.{kind}"] = torch.cat([own[f"{name}.{kind}"] for name in ours])
    swapped = ["final_layer.adaLN_modulation.1"]
    if family == "sd-3":
        last = SD3_CONFIG["num_layers"] - 1
        swapped.append(f"joint_blocks.{last}.context_block.adaLN_modulation.1")
        for kind in ("weight", "bias"):
            stored[f"{swapped[-1]}.{kind}"] = own[f"transformer_blocks.{last}.norm1_context.linear.{kind}"]
    for module in swapped:
        for kind in ("weight", "bias"):
            stored[f"{module}.{kind}"] = torch.cat(stored[f"{module}.{kind}"].chunk(2)[::-1])
    ours_of = {theirs: ours for theirs, ours, _ in made.blocks}
    for stack, norms in made.norms:
        for number in range(9):
            for theirs, norm in norms.items():
                if (name := f"{ours_of[stack]}.{number}.{norm}.weight") in own:
                    stored[f"{stack}.{number}.{theirs}.{'scale' if family == 'flux-1' else 'weight'}"] = own[name]
    whole = {f"model.diffusion_model.{name}": tensor for name, tensor in stored.items()}
    for name, tensor in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        attention = ".attentions." in name and name.endswith(".weight") and tensor.dim() == 2
        whole[f"first_stage_model.{tiny.ldm_vae(name, 2)}"] = (
            tensor[:, :, None, None].contiguous() if attention else tensor
        )
    for theirs, component in made.encoders.items():
        tensors = load_file(folder / component / "model.safetensors") if (folder / component).is_dir() else {}
        for name, tensor in tensors.items():
            whole[f"text_encoders.{theirs}.transformer.{name}"] = tensor
        if theirs == "clip_l":
            whole.setdefault(
                f"text_encoders.{theirs}.transformer.text_projection.weight", torch.eye(TEXT["projection_dim"])
            )
            whole[f"text_encoders.{theirs}.logit_scale"] = torch.tensor(4.6)
        if theirs == "t5xxl" and tensors:
            whole[f"text_encoders.{theirs}.transformer.encoder.embed_tokens.weight"] = tensors["shared.weight"].clone()
    save_file({name: tensor for name, tensor in whole.items() if not name.startswith(leave_out)}, path)
    return path


def _t5_tokenizer() -> Any:
    from transformers import T5TokenizerFast

    letters = ["▁", *string.ascii_lowercase, *string.digits, *(f"▁{letter}" for letter in string.ascii_lowercase)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -2.0) for letter in letters)]
    return T5TokenizerFast(vocab=vocabulary, extra_ids=0)
