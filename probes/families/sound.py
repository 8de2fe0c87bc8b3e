"""What makes, hears or speaks, beside image and video models. By the names of transformers' and diffusers' classes, or of the
repository that a layout is called by."""

from __future__ import annotations

from probes.families.part import table
from probes.report import Kind

_DENOISER_ROOTS = ("", "model.diffusion_model.", "model.model.", "model.")
_HEARING = ("", "wav2vec2.", "hubert.", "wavlm.")

SIGNATURES = (
    *table(Kind.AUDIO_MODEL, {
        "ace-step": ("genre_embedder.weight", "lyric_encoder.embed.out.0.weight", "speaker_embedder.weight"),
        "ace-step 1.5": ("proj_out_conv.weight", "layers.0.cross_attn_norm.weight", "condition_embedder.weight"),
        "stable audio": ("to_timestep_embed.0.weight", "to_cond_embed.0.weight", "transformer.rotary_pos_emb.inv_freq"),
        "stable audio, diffusers": ("timestep_proj.0.weight", "cross_attention_proj.0.weight", "global_proj.0.weight"),
        "mmaudio": ("audio_input_proj.0.weight", "sync_input_proj.0.weight", "joint_blocks.0.latent_block.attn.qkv.weight"),
    }, roots=_DENOISER_ROOTS),
    *table(Kind.AUDIO_MODEL, {
        "wav2vec 2": [
            [f"{root}{name}" for root in _HEARING]
            for name in ("feature_extractor.conv_layers.0.conv.weight", "feature_projection.projection.weight",
                         "encoder.pos_conv_embed.conv.bias")
        ],
        "clap": ("audio_model.audio_encoder.batch_norm.weight", "audio_projection.linear1.weight"),
        "bigvgan": (("conv_pre.weight", "conv_pre.weight_g"), ("conv_post.weight", "conv_post.weight_g"), "activation_post.act.alpha"),
        "synchformer": ("vfeat_extractor.patch_embed_3d.proj.weight", "vfeat_extractor.blocks.0.timeattn.qkv.weight"),
    }),
    *table(Kind.AUDIO_MODEL, {
        "whisper": ("encoder.conv1.weight", "encoder.conv2.weight", ("encoder.embed_positions.weight", "encoder.positional_embedding")),
    }, roots=("", "model.")),
)  # fmt: skip
