"""Checkpoints that a few rules tell; the LoRAs of some of these families have files of their own."""

from __future__ import annotations

from collections.abc import Iterator

from probes.families import unet
from probes.families.transformer import ROOTS
from probes.report import Kind
from probes.rules import Blocks, Has, Mirrored, Only, Rule, Width
from probes.signature import ChannelVariants, Signature

_UNETS = ("kandinsky-2.2", "deepfloyd-if", "svd")

_LAYOUTS: dict[str, dict[tuple[str, str | None], tuple[Rule, ...]]] = {
    # family -> layout and variant -> rules
    "allegro": {
        ("diffusers", None): (
            Has("adaln_single.linear.weight"), Width("caption_projection.linear_1.weight", 4096), Width("pos_embed.proj.weight", 4),
            Width("transformer_blocks.0.attn1.to_q.weight", 2304), Blocks("transformer_blocks", 32),
            Only("adaln_single", "caption_projection", "pos_embed", "proj_out", "scale_shift_table", "transformer_blocks"),
        ),
    },
    "boogu-image": {
        ("original", None): (
            Has("double_stream_layers.0.img_instruct_attn.processor.img_to_q.weight"), Width("ref_image_refiner.0.attn.to_q.weight", 3360),
            Width("time_caption_embed.caption_embedder.1.weight", 4096), Blocks("double_stream_layers", 8),
            Blocks("single_stream_layers", 32),
        ),
    },
    "cogview3": {
        ("diffusers", "plus"): (
            Has("patch_embed.text_proj.weight"), Width("patch_embed.text_proj.weight", 4096),
            Width("transformer_blocks.0.attn1.to_q.weight", 2560), Blocks("transformer_blocks", 30),
            Width("time_condition_embed.condition_embedder.linear_1.weight", 1536),
            Only("patch_embed", "time_condition_embed", "transformer_blocks", "norm_out", "proj_out"),
        ),
    },
    "cogvideox": {
        ("diffusers", size): (
            Has("patch_embed.text_proj.weight"), Width("patch_embed.text_proj.weight", 4096),
            Width("transformer_blocks.0.attn1.to_q.weight", width), Blocks("transformer_blocks", count),
            Width("time_embedding.linear_1.weight", width),
            Only("patch_embed", "time_embedding", "ofs_embedding", "transformer_blocks", "norm_final", "norm_out", "proj_out"),
        )
        for size, width, count in (("2b", 1920, 30), ("5b", 3072, 42))
    },
    "deepfloyd-if": {
        ("diffusers", None): (
            Has("add_embedding.pool.k_proj.weight"), Width("encoder_hid_proj.weight", 4096), Width("conv_in.weight", 3),
            Mirrored("down_blocks", "up_blocks"),
        ),
    },
    "hidream-o1": {
        ("original", None): (
            Has("t_embedder1.mlp.0.weight"), Width("x_embedder.proj1.weight", 3072), Width("final_layer2.linear.weight", 4096),
            Width("language_model.layers.0.self_attn.q_proj.weight", 4096), Blocks("language_model.layers", 36),
        ),
    },
    "hunyuan-image": {
        ("comfy", None): (
            Has("byt5_in.fc1.weight"), Width("txt_in.input_embedder.weight", 3584), Width("double_blocks.0.img_attn.qkv.weight", 3584),
            Width("img_in.proj.weight", 64), Blocks("double_blocks", 20), Blocks("single_blocks", 40),
        ),
        ("diffusers", None): (
            Has("context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight"), Width("transformer_blocks.0.attn.to_q.weight", 3584),
            Width("x_embedder.proj.weight", 64), Blocks("transformer_blocks", 20), Blocks("single_transformer_blocks", 40),
        ),
    },
    "hunyuan-video-1.5": {
        ("comfy", None): (
            Has("byt5_in.fc1.weight"), Width("txt_in.input_embedder.weight", 3584), Width("double_blocks.0.img_attn.qkv.weight", 2048),
            Width("img_in.proj.weight", 65), Blocks("double_blocks", 54), Blocks("single_blocks", 0),
        ),
        ("diffusers", None): (
            Has("context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight"), Width("transformer_blocks.0.attn.to_q.weight", 2048),
            Width("context_embedder_2.linear_1.weight", 1472), Width("x_embedder.proj.weight", 65), Blocks("transformer_blocks", 54),
        ),
    },
    "joyai-image": {
        ("original", None): (
            Has("double_blocks.0.img_mod.modulate_table"), Width("double_blocks.0.img_attn_qkv.weight", 4096),
            Width("condition_embedder.text_embedder.linear_1.weight", 4096), Width("img_in.weight", 16), Blocks("double_blocks", 40),
            Only("img_in", "condition_embedder", "double_blocks", "proj_out"),
        ),
    },
    "kandinsky-2.2": {
        ("diffusers", None): (
            Has("add_embedding.image_proj.weight"), Width("encoder_hid_proj.image_embeds.weight", 1280), Width("conv_in.weight", 4, 9),
            Mirrored("down_blocks", "up_blocks"),
        ),
    },
    "kandinsky-5": {
        ("original", size): (
            Has("visual_transformer_blocks.0.self_attention.to_query.weight"), Width("text_embeddings.in_layer.weight", 3584),
            Width("visual_transformer_blocks.0.self_attention.to_query.weight", width), Blocks("visual_transformer_blocks", count),
            Only("time_embeddings", "text_embeddings", "pooled_text_embeddings", "visual_embeddings", "text_transformer_blocks",
                 "visual_transformer_blocks", "out_layer"),
        )
        for size, width, count in (("lite", 1792, 32), ("image-lite", 2560, 50), ("pro", 4096, 60))
    },
    "lingbot-video": {
        ("diffusers", size): (
            Has("norm_out_modulation.1.weight"), Has(first), Width("text_embedder.linear_1.weight", 2560),
            Width("blocks.0.attn.to_q.weight", 2048), Blocks("blocks", count),
            Only("patch_embedder", "time_embedder", "time_modulation", "text_embedder", "blocks", "norm_out_modulation", "proj_out"),
        )
        for size, count, first in (("dense-1.3b", 24, "blocks.0.ffn.gate_proj.weight"), ("moe-30b", 48, "blocks.0.ffn.router.weight"))
    },
    "longcat-video": {
        ("original", None): (
            Width("y_embedder.y_proj.0.weight", 4096), Width("blocks.0.cross_attn.kv_linear.weight", 4096),
            Width("blocks.0.adaLN_modulation.1.weight", 512), Blocks("blocks", 48),
            Only("x_embedder", "t_embedder", "y_embedder", "blocks", "final_layer"),
        ),
    },
    "mochi": {
        ("original", None): (
            Has("t5_yproj.weight"), Width("blocks.0.attn.qkv_x.weight", 3072), Width("blocks.0.attn.qkv_y.weight", 1536),
            Blocks("blocks", 48),
        ),
        ("diffusers", None): (
            Has("time_embed.pooler.to_kv.weight"), Width("transformer_blocks.0.attn1.to_q.weight", 3072),
            Width("transformer_blocks.0.attn1.add_q_proj.weight", 1536), Blocks("transformer_blocks", 48),
        ),
    },
    "omnigen-2": {
        ("original", None): (
            Has("ref_image_patch_embedder.weight"), Width("ref_image_refiner.0.attn.to_q.weight", 2520),
            Width("layers.0.attn.to_q.weight", 2520), Blocks("layers", 32),
        ),
    },
    "sana": {
        ("diffusers", size): (
            Has("transformer_blocks.0.ff.conv_inverted.weight"), Width("patch_embed.proj.weight", 32),
            Width("caption_projection.linear_1.weight", 2304), Width("transformer_blocks.0.attn1.to_q.weight", width),
            Blocks("transformer_blocks", count),
            Only("scale_shift_table", "patch_embed", "time_embed", "caption_projection", "caption_norm", "transformer_blocks", "proj_out",
                 "guidance_embedder"),
        )
        for size, width, count in (("0.6b", 1152, 28), ("1.6b", 2240, 20), ("4.8b", 2240, 60))
    },
    "stable-cascade": {
        ("original", "prior"): (
            Has("clip_txt_mapper.weight"), Width("clip_txt_pooled_mapper.weight", 1280), Width("clf.1.weight", 1536, 2048),
            Mirrored("down_blocks", "up_blocks"),
        ),
        ("original", "decoder"): (
            Has("effnet_mapper.0.weight"), Width("clip_mapper.weight", 1280), Width("clf.1.weight", 320),
            Mirrored("down_blocks", "up_blocks"),
        ),
        ("diffusers", "prior"): (
            Has("clip_txt_pooled_mapper.weight"), Width("clip_txt_pooled_mapper.weight", 1280), Width("clf.1.weight", 1536, 2048),
            Width("embedding.1.weight", 16), Mirrored("down_blocks", "up_blocks"),
        ),
        ("diffusers", "decoder"): (
            Has("effnet_mapper.0.weight"), Width("clip_txt_pooled_mapper.weight", 1280), Width("clf.1.weight", 320),
            Mirrored("down_blocks", "up_blocks"),
        ),
    },
    "svd": {
        ("ldm", None): (
            Has("input_blocks.1.1.time_stack.0.attn1.to_q.weight"), Width("input_blocks.0.0.weight", 8), Width("label_emb.0.0.weight", 768),
            Width("*.transformer_blocks.0.attn2.to_k.weight", 1024), unet.LDM_WHOLE,
        ),
        ("diffusers", None): (
            Has("down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q.weight"), Width("conv_in.weight", 8),
            Width("add_embedding.linear_1.weight", 768), Width("*.transformer_blocks.0.attn2.to_k.weight", 1024), unet.DIFFUSERS_WHOLE,
        ),
    },
}  # fmt: skip
_PREDICTIONS = {
    "allegro": "epsilon", "cogview3": "v_prediction", "cogvideox": "v_prediction", "deepfloyd-if": "epsilon", "kandinsky-2.2": "epsilon",
    "stable-cascade": "epsilon", "svd": "v_prediction",
}  # fmt: skip
"""Where it is not flow."""
_VARIANTS = {"kandinsky-2.2": ChannelVariants("conv_in.weight", {4: "normal", 9: "inpaint"})}


def _signatures() -> Iterator[Signature]:
    for family, layouts in _LAYOUTS.items():
        for (layout, variant), rules in layouts.items():
            yield Signature(
                Kind.CHECKPOINT, family, layout, rules, unet.ROOTS if family in _UNETS else ROOTS, _VARIANTS.get(family), variant,
                _PREDICTIONS.get(family, "flow"),
            )  # fmt: skip


SIGNATURES = tuple(_signatures())
