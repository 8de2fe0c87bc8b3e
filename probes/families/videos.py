"""Hunyuan Video and LTX Video: recognised as checkpoints, so that their likeness to FLUX and PixArt misleads nobody."""

from __future__ import annotations

from probes.families.transformer import checkpoint
from probes.rules import Blocks, Has, Width

SIGNATURES = (
    checkpoint(
        "hunyuan-video",
        "original",
        Has("double_blocks.0.img_attn_qkv.weight"),
        Has("txt_in.individual_token_refiner.blocks.0.self_attn_qkv.weight"),
        Width("double_blocks.0.img_attn_qkv.weight", 3072),
    ),
    checkpoint(
        "hunyuan-video",
        "diffusers",
        Has("context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight"),
        Width("transformer_blocks.0.attn.to_q.weight", 3072),
        Blocks("transformer_blocks", 20),
        Blocks("single_transformer_blocks", 40),
    ),
    checkpoint(
        "ltx-video",
        "original",
        Has("patchify_proj.weight"),
        Width("transformer_blocks.0.attn1.to_q.weight", 2048, 4096),
        Width("caption_projection.linear_1.weight", 4096, 3840),
    ),
    checkpoint(
        "ltx-video",
        "diffusers",
        Has("time_embed.emb.timestep_embedder.linear_1.weight"),
        Width("proj_in.weight", 128),
        Width("transformer_blocks.0.attn1.to_q.weight", 2048, 4096),
        Width("caption_projection.linear_1.weight", 4096, 3840),
    ),
)
