"""Files that are recognised by name but not taken: parts of pipelines, add-ons of other kinds, language models."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from probes.adapters import CONTROL, LANGUAGE
from probes.report import Evidence, Kind
from probes.rules import AdapterOf, Alone, Begins, Has, Paths, Without
from probes.signature import Signature
from probes.subject import Subject


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The file holds nothing but one or two tables of token vectors, each as wide as a text encoder takes them.

    They are named by the token, or `emb_params`, `clip_l`, `clip_g`; dotted names are layers of something else.
    """

    widths: tuple[int, ...] = (768, 1024, 1280, 4096)

    def check(self, subject: Subject) -> Evidence:
        tensors = subject.header.tensors
        shapes = {name: tensors[name].shape for name in islice(tensors, 3)}
        odd = next(
            (
                n
                for n, s in shapes.items()
                if not 1 <= len(s) <= 2 or s[-1] not in self.widths or (len(s) == 2 and s[0] > 128)
            ),
            None,
        )
        odd = odd or next((name for name in shapes if "." in name or name in ("weight", "bias")), None)
        ok = odd is None and 1 <= len(tensors) <= 2
        return Evidence("embeddings", ok, odd, "one or two tables of token vectors", f"{len(tensors)} tensors")


_VAE_ROOTS = ("", "first_stage_model.", "vae.")

SIGNATURES = (
    Signature(
        Kind.VAE,
        None,
        "diffusers",
        (
            Has("encoder.conv_in.weight"),
            Has("decoder.conv_out.weight"),
            Has("encoder.down_blocks.0.resnets.0.conv1.weight"),
            Alone(),
        ),
        _VAE_ROOTS,
    ),
    Signature(
        Kind.VAE,
        None,
        "ldm",
        (
            Has("encoder.conv_in.weight"),
            Has("decoder.conv_out.weight"),
            Has("encoder.down.0.block.0.conv1.weight"),
            Alone(),
        ),
        _VAE_ROOTS,
    ),
    Signature(
        Kind.VAE,
        None,
        "taesd",
        (Has("decoder.layers.0.weight", "1.weight"), Has("decoder.layers.2.conv.0.weight", "3.conv.0.weight"), Alone()),
    ),
    Signature(
        Kind.CONTROLNET,
        None,
        "diffusers",
        (
            Has(
                "controlnet_cond_embedding.conv_in.weight",
                "controlnet_x_embedder.weight",
                "controlnet_blocks.0.weight",
                "pos_embed_input.proj.weight",
            ),
        ),
    ),
    Signature(
        Kind.CONTROLNET,
        None,
        "ldm",
        (Has("input_hint_block.0.weight"), Has("zero_convs.0.0.weight")),
        ("", "control_model."),
    ),
    Signature(Kind.CONTROLNET, None, "lllite", (Begins("lllite_unet_"),)),
    Signature(Kind.CONTROL_LORA, None, "stability", (Has("lora_controlnet"),)),
    Signature(Kind.CONTROL_LORA, None, None, (AdapterOf(CONTROL),)),
    Signature(
        Kind.T2I_ADAPTER,
        None,
        None,
        (Has("body.0.block1.weight", "body.0.resnets.0.block1.weight", "body.0.in_conv.weight"), Alone()),
        ("", "adapter."),
    ),
    Signature(Kind.MOTION_LORA, None, "animatediff", (AdapterOf(), Paths("motion modules", r".*motion_modules_\d+_"))),
    Signature(Kind.IP_ADAPTER, None, None, (Begins("ip_adapter.", "image_proj."),)),
    Signature(Kind.TEXTUAL_INVERSION, None, None, (Embeddings(), Without("*alpha"))),
    Signature(
        Kind.TEXT_ENCODER,
        None,
        "clip",
        (
            Has("encoder.layers.0.self_attn.q_proj.weight"),
            Has("embeddings.token_embedding.weight", "embeddings.position_embedding.weight"),
            Without("post_layernorm.weight"),
            Without("decoder.layers.0.fc1.weight"),
        ),
        ("text_model.", ""),
    ),
    Signature(
        Kind.TEXT_ENCODER,
        None,
        "openclip",
        (Has("transformer.resblocks.0.attn.in_proj_weight"), Has("token_embedding.weight"), Alone()),
    ),
    Signature(
        Kind.TEXT_ENCODER,
        None,
        "t5",
        (
            Has("encoder.block.0.layer.0.SelfAttention.q.weight"),
            Without("decoder.block.0.layer.0.SelfAttention.q.weight"),
            Alone(),
        ),
    ),
    Signature(
        Kind.IMAGE_ENCODER,
        None,
        "clip",
        (Has("encoder.layers.0.self_attn.q_proj.weight"), Has("post_layernorm.weight")),
        ("vision_model.", ""),
    ),
    Signature(Kind.UPSCALER, None, "esrgan", (Has("model.0.weight"), Has("model.1.sub.0.RDB1.conv1.0.weight"))),
    Signature(
        Kind.UPSCALER,
        None,
        "esrgan",
        (
            Has("conv_first.weight"),
            Has("body.0.rdb1.conv1.weight", "body.0.weight", "layers.0.residual_group.blocks.0.norm1.weight"),
        ),
    ),
    Signature(
        Kind.LANGUAGE_MODEL,
        None,
        None,
        (Has("layers.0.self_attn.q_proj.weight", "layers.0.self_attn.qkv_proj.weight"), Has("embed_tokens.weight")),
        ("model.", "", "language_model.model.", "model.language_model."),
    ),
    Signature(
        Kind.LANGUAGE_MODEL,
        None,
        "llama.cpp",
        (Has("token_embd.weight"), Has("blk.0.attn_q.weight", "blk.0.attn_qkv.weight", "blk.0.ffn_norm.weight")),
    ),
    Signature(Kind.LANGUAGE_MODEL, None, "peft", (AdapterOf(LANGUAGE),)),
)
