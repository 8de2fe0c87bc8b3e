"""Files that are recognised by name but not taken: parts of pipelines, add-ons of other kinds, language models."""

from __future__ import annotations

import re
from dataclasses import dataclass

from probes.adapter_names import CONTROL, LANGUAGE
from probes.adapter_rules import AdapterOf, Paths
from probes.families.part import has, part, table
from probes.report import Evidence, Kind
from probes.rules import Alone, Begins, Dimensions, Has, Only, Width, Without, Words
from probes.subject import Subject

_ENCODERS = (768, 1024, 1280, 4096)
"""What text encoders take in: CLIP-L, SD 2's, CLIP-G, T5-XXL."""
_TABLES = {
    r"emb_params|string_to_param\..+|text_encoders_\d+|<.+>": _ENCODERS,
    r"clip_l(_out)?": (768,),
    r"clip_g(_out)?": (1280,),
    r"t5(xxl)?(_out)?": (4096,),
}
"""What trainers call tables of token vectors, and how wide these are: A1111, ai-toolkit, diffusers by the token; Kohya and OneTrainer
(`_out`: added to what the encoder gives) by the encoder."""
_OTHER_VECTORS = (
    r"weights?|bias|vectors?|means?|std|var|scale|shift|alpha|beta|gamma|norm|data|tensor|array|tokens?|cls|embed(s|dings?)?|features?|"
    r"latents?|images?|texts?|prompts?|captions?|labels?|logits|query|queries|keys?|values?|inputs?|outputs?|hidden|pooled|positions?|"
    r"codebook|prototypes?|cent(er|re|roid)s?|memory|context|cond|uncond|null|mask|head|proj|layer|x|y|z"
)
_TOKEN = re.compile(rf"(?!(.*[_-])?({_OTHER_VECTORS})\d*([_-]|$))[A-Za-z][\w-]*")
"""What older scripts of diffusers call a table by, where the token has no brackets: words, none of which other vectors of a text's
width are called by."""
_TOKENS = (768, 1024)
"""For one such table there is one encoder: SD 1's or SD 2's."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The file holds nothing but tables of token vectors, each as wide as its text encoder takes them: called as trainers
    call them, or a single one that is called by a token."""

    longest: int = 256

    def check(self, subject: Subject) -> Evidence:
        tensors = subject.header.tensors
        odd = next((name for name in tensors if not self._table(name, tensors[name].shape, len(tensors) == 1)), None)
        return Evidence("embeddings", odd is None, odd, "tables of token vectors", f"{len(tensors)} tensors")

    def _table(self, name: str, shape: tuple[int, ...], single: bool) -> bool:
        widths = next((widths for pattern, widths in _TABLES.items() if re.fullmatch(pattern, name)), ())
        if single and not widths and _TOKEN.fullmatch(name):
            widths = _TOKENS
        return 1 <= len(shape) <= 2 and shape[-1] in widths and (len(shape) == 1 or shape[0] <= self.longest)


_VAE_ROOTS = ("", "first_stage_model.", "vae.")
_VIDEO = (
    ("encoder.conv_in.conv.weight", "decoder.conv_out.conv.weight"),  # Hunyuan Video, LTX, CogVideoX
    ("encoder.conv_in.conv_s.weight", "decoder.conv_out.conv_s.weight"),  # Cosmos
    ("encoder.layers.0.weight", "decoder.output_proj.weight", "decoder.blocks.0.1.stack.0.weight"),  # Mochi
    ("encoder.proj_in.weight", "decoder.proj_out.weight", "decoder.block_in.resnets.0.conv1.conv.weight"),  # Mochi, diffusers
    (
        "encoder.conv_in.weight", "decoder.conv_out.weight",
        ("encoder.down_blocks.0.conv1.weight", "encoder.down_blocks.0.0.conv1.weight", "decoder.mid_block.convs.0.conv1.weight"),
    ),  # Wan and Qwen-Image, deep compression, EasyAnimate
    ("encoder.conv1.weight", "decoder.head.2.weight", "decoder.middle.0.residual.2.weight"),  # Wan, original
    ("encoder.conv1.weight_g", "decoder.conv2.weight_v", "decoder.block.0.conv_t1.bias"),  # Oobleck
)  # fmt: skip
"""The first and the last layer of each, and one between where these could be anybody's."""
_LANGUAGE_ROOTS = (
    "model.", "", "language_model.model.", "model.language_model.", "model.text_model.", "model.decoder.", "transformer.", "gpt_neox.",
    "backbone.", "rwkv.",
)  # fmt: skip
_DRAWING = ("/llm2vae.weight", "/timestep_emb.mlp.0.weight", "/model.t_embedder1.mlp.0.weight")
"""What language models have that draw by diffusion: BAGEL and its kin, Hunyuan Image 3, HiDream-O1."""
_LISTENING = ("/model.encoder.conv1.weight", "/encoder.conv1.weight")
"""What writes down what it hears: Whisper, whose decoder is a language model's."""
_UPSCALER_ROOTS = ("", "params_ema.", "params.")
"""Basic SR saves the trained weights, and their moving average, under such names."""
_CONTROLLED = ("transformer_blocks.", "single_transformer_blocks.", "double_blocks.", "joint_blocks.", "blocks.")
"""What ControlNets have copied of their transformers: in diffusers, XLabs', Stability's and Hunyuan DiT's."""
_STEERING = ("controlnet_mid_block.", "mid_block.base_to_ctrl.", "mid_block.base_midblock.")
"""What ControlNets of UNets have in the middle, those of diffusers' XS classes another."""
_CONTROL_LORA = ("lora_controlnet", "input_blocks.1.0.in_layers.2.up")
"""Its marker, which has no elements, and the first of its low-rank pairs."""
_PULID = ("pulid_ca", "pulid_encoder", "id_adapter", "id_adapter_attn_layers")
_MOTION = {
    "animatediff": ("down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight",),
    "diffusers": ("down_blocks.0.motion_modules.0.proj_in.weight",),
    "hotshot-xl": (
        "down_blocks.0.temporal_attentions.0.proj_in.weight",
        "up_blocks.0.temporal_attentions.0.proj_in.weight",
    ),
}
"""AnimateDiff's layers over time, to be put into a UNet. Its SparseCtrl has some of its own."""
_CLIP_TEXT = "text_model.encoder.layers.0.self_attn.q_proj.weight"

SIGNATURES = (
    # autoencoders: of pictures, then those with layers over time (Hunyuan, LTX, CogVideoX, Mochi, Cosmos, Wan) or sound
    part(
        Kind.VAE, "diffusers",
        Has("encoder.conv_in.weight"), Has("decoder.conv_out.weight"), Has("encoder.down_blocks.0.resnets.0.conv1.weight"), Alone(),
        roots=_VAE_ROOTS,
    ),
    part(
        Kind.VAE, "ldm",
        Has("encoder.conv_in.weight"), Has("decoder.conv_out.weight"), Has("encoder.down.0.block.0.conv1.weight"),
        Without("quantize.embedding.weight"), Alone(), roots=_VAE_ROOTS,
    ),
    *(
        part(Kind.VAE, "taesd", *has(every), *rules)
        for every, rules in (
            (("encoder.layers.0.weight", "decoder.layers.0.weight", "decoder.layers.2.conv.0.weight"), ()),
            (("0.weight", "1.conv.0.weight", "1.conv.4.weight"), (Width("0.weight", 3), Dimensions("14.weight", 4), Only(""))),
            (("1.weight", "3.conv.0.weight", "3.conv.4.weight"), (Dimensions("1.weight", 4), Dimensions("19.weight", 4), Only(""))),
        )
    ),  # whole, and either half by itself
    *(
        part(
            Kind.VAE, "video", *has(every),
            Without("encoder.down_blocks.0.resnets.0.conv1.weight", "encoder.down.0.block.0.conv1.weight", "quantize.embedding.weight"),
            Only("encoder", "decoder", "quant_conv", "post_quant_conv", "conv1", "conv2", "latents_mean", "latents_std",
                 "per_channel_statistics"),
            Alone(), roots=_VAE_ROOTS,
        )
        for every in _VIDEO
    ),
    *table(Kind.VAE, {
        "taesd, both halves": ("taesd_encoder.0.weight", "taesd_decoder.1.weight"),
        "taehv": ("encoder.2.conv.weight", "encoder.4.conv.0.weight", ("decoder.3.conv.0.weight", "decoder.1.conv.0.weight")),
        "stable cascade, stage A": ("in_block.1.weight", ("vquantizer.codebook.weight", "vquantizer.embedding.weight")),
        "stable cascade, stage C": ("encoder.mapper.0.weight", "previewer.blocks.0.weight"),
        "mochi decoder": ("output_proj.weight", "blocks.0.1.stack.0.weight", "blocks.1.blocks.0.stack.0.weight"),
        "consistency decoder": ("encoder.conv_in.weight", "decoder_unet.conv_in.weight"),
        "representation": ("encoder.embeddings.cls_token", "decoder.decoder_embed.weight"),
        "vidtok": ("encoder.conv_in.conv.weight", "encoder.down_temporal.0.block.0.conv1.conv.weight"),
        "kvae audio": ("encoder.snake1.alpha", "decoder.snake1.alpha", "attn.to_q.weight"),
        "minimax": ("encoder.conv_in.weight", "decoder.register_tokens", "decoder.transformer_blocks.0.attn.to_q.weight"),
        "minimax audio": ("encoder.block.0.weight_g", "decoder.conv_pre.weight_g", "decoder.resblocks.0.activations.0.act.beta"),
        "same": ("bottleneck.running_std", "encoder.proj.weight", "decoder.proj.weight"),
    }, Alone()),
    # what steers a denoiser
    *(
        part(Kind.CONTROLNET, "diffusers", *has(every), *rules)
        for every, rules in (
            ((("controlnet_cond_embedding.conv_in.weight", "controlnet_cond_embedding.weight"),), (Begins(*_STEERING),)),
            (("controlnet_blocks.0.weight", "controlnet_blocks.1.weight"), (Begins(*_CONTROLLED),)),
            (("controlnet_blocks.0.x_rms.weight", "controlnet_blocks.0.y_rms.weight"), ()),
            (("control_blocks.0.after_proj.weight", "control_blocks.0.attn1.to_q.weight"), ()),
            (("control_layers.0.adaLN_modulation.0.weight", "control_layers.0.after_proj.weight"), ()),
        )
    ),  # of UNets, of transformers, Qwen-Image's by the block, Cosmos', Z-Image's
    part(
        Kind.CONTROLNET, "ldm",
        Has("input_hint_block.0.weight"), Has("zero_convs.0.0.weight"), Without(*_CONTROL_LORA), roots=("", "control_model."),
    ),
    part(Kind.CONTROLNET, "lllite", Begins("lllite_unet_")),
    part(Kind.CONTROLNET, "vace module of wan", Has("vace_patch_embedding.weight"), Only("vace_blocks", "vace_patch_embedding")),
    part(Kind.CONTROL_LORA, "stability", Has(*_CONTROL_LORA)),
    part(Kind.CONTROL_LORA, None, AdapterOf(CONTROL)),
    *(
        part(
            Kind.T2I_ADAPTER, None,
            Has(f"{block}1.weight"), Has(f"{block}2.weight"), Dimensions(first, 4), Alone(), roots=("", "adapter."),
        )
        for block, first in (
            ("body.0.block", "conv_in.weight"), ("body.0.resnets.0.block", "conv_in.weight"),
            ("body.0.body.0.block", "body.0.in_conv.weight"), ("body.0.resnets.0.block", "body.0.in_conv.weight"),
        )
    ),  # full and light, original and in diffusers
    part(Kind.T2I_ADAPTER, "style", Has("style_embedding"), Begins("transformer_layes.")),
    *table(Kind.MOTION_MODULE, _MOTION, Without("time_embedding.linear_1.weight"), roots=("", "module.")),
    *table(
        Kind.MOTION_MODULE, {f"{layout}, with its unet": (*every, "time_embedding.linear_1.weight") for layout, every in _MOTION.items()},
        Without("controlnet_cond_embedding.weight", "controlnet_cond_embedding.conv_in.weight"),
    ),
    part(Kind.MOTION_LORA, "animatediff", AdapterOf(), Paths("motion modules", r".*motion_modules_\d+_")),
    part(Kind.IP_ADAPTER, None, Begins("ip_adapter..to_k_ip.", "ip_adapter..proj..to_k_ip.")),
    part(Kind.IP_ADAPTER, "xlabs", Has("*.processor.ip_adapter_double_stream_k_proj.weight")),
    part(Kind.IP_ADAPTER, "pulid", Begins("pulid_ca..to_q.", "id_adapter_attn_layers..id_to_k."), Only(*_PULID)),
    part(
        Kind.IP_ADAPTER, "photomaker",
        Has("id_encoder.vision_model.embeddings.class_embedding"), Begins("id_encoder.visual_projection_.", "lora_weights.unet."),
    ),
    part(Kind.IP_ADAPTER, "redux", Has("redux_up.weight"), Has("redux_down.weight"), Alone()),
    # text and pictures
    part(Kind.TEXTUAL_INVERSION, None, Embeddings(), Without("*alpha")),
    *(
        part(
            Kind.TEXT_ENCODER, "clip",
            Has("encoder.layers.0.self_attn.q_proj.weight"),
            Has("embeddings.token_embedding.weight", "embeddings.position_embedding.weight"),
            Without("post_layernorm.weight"), Without("decoder.layers.0.fc1.weight"), *alone, roots=roots,
        )
        for roots, alone in (
            (("text_model.", ""), ()),
            (
                ("transformer.text_model.", "cond_stage_model.transformer.text_model.",
                 "cond_stage_model.transformer.text_model.text_model."),
                (Alone(),),
            ),
        )
    ),
    part(
        Kind.TEXT_ENCODER, "merged",
        Has(*(f"{name}.transformer.{_CLIP_TEXT}" for name in ("clip_l", "clip_g"))), Only("clip_l", "clip_g", "clip_h", "t5xxl"), Alone(),
        roots=("", "text_encoders."),
    ),
    part(
        Kind.TEXT_ENCODER, "merged",
        Has(f"embedders.0.transformer.{_CLIP_TEXT}"), Has("embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"), Alone(),
        roots=("conditioner.",),
    ),  # SDXL's two, cut out of its checkpoint
    part(Kind.TEXT_ENCODER, "openclip", Has("transformer.resblocks.0.attn.in_proj_weight"), Has("token_embedding.weight"), Alone()),
    part(
        Kind.TEXT_ENCODER, "t5",
        Has("encoder.block.0.layer.0.SelfAttention.q.weight"), Without("decoder.block.0.layer.0.SelfAttention.q.weight"), Alone(),
        roots=("", "transformer.", "text_encoders.t5xxl.transformer."),
    ),
    part(
        Kind.TEXT_ENCODER, "wan",
        Has("blocks.0.pos_embedding.embedding.weight"), Has("blocks.0.attn.q.weight"), Has("token_embedding.weight"), Alone(),
    ),
    part(
        Kind.TEXT_ENCODER, "llama.cpp",
        Has("enc.blk.0.attn_q.weight"), Has("token_embd.weight"), Without("dec.blk.0.attn_q.weight"),
    ),
    part(
        Kind.IMAGE_ENCODER, "clip",
        Has("encoder.layers.0.self_attn.q_proj.weight"), Has("post_layernorm.weight"), Has("embeddings.patch_embedding.weight"),
        Without(_CLIP_TEXT),
    ),
    part(
        Kind.IMAGE_ENCODER, "clip",
        Has("vision_model.encoder.layers.0.self_attn.q_proj.weight"), Has("vision_model.post_layernorm.weight"), Without(_CLIP_TEXT),
        Only("vision_model", "visual_projection"),
    ),
    part(
        Kind.IMAGE_ENCODER, "vit",
        Has("embeddings.cls_token"), Without("embeddings.detection_tokens"),
        Begins("encoder.layer..attention.", "layer..attention.", "layers..attention.", "model.layer..attention."),
        roots=("", "vit."),
    ),
    part(Kind.LANGUAGE_MODEL, "llama.cpp", Has("token_embd.weight"), Begins("blk..attn_q", "blk..attn_kv", "blk..ssm", "blk..ffn_norm")),
    *(
        part(Kind.LANGUAGE_MODEL, None, Has(*words), Begins(*layers), Without(*_DRAWING, *_LISTENING), roots=_LANGUAGE_ROOTS)
        for words, layers in (
            (
                ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight"),
                ("layers..self_attn.q", "layers..mixer.", "layers..attention.", "h..attn.", "h..self_attention."),
            ),
            (("embeddings.weight",), ("layers..mixer.", "blocks..attention.receptance.")),
        )
    ),
    part(
        Kind.LANGUAGE_MODEL, "modernbert",
        Has("embeddings.tok_embeddings.weight"), Has("layers.0.attn.Wqkv.weight"), roots=("", "model."),
    ),
    part(
        Kind.LANGUAGE_MODEL, "t5",
        Has("encoder.block.0.layer.0.SelfAttention.q.weight"), Has("decoder.block.0.layer.0.SelfAttention.q.weight"),
    ),
    part(Kind.LANGUAGE_MODEL, "llama.cpp", Has("enc.blk.0.attn_q.weight"), Has("dec.blk.0.attn_q.weight")),
    part(
        Kind.LANGUAGE_MODEL, "bert",
        Has("embeddings.word_embeddings.weight"),
        Begins("encoder.layer..attention.self.", "encoder.layers..attention.self.",
               "encoder.layer..attention.attn.", "encoder.albert_layer_groups.",
               "transformer.layer..attention."),
        Without("/transformer.level_embed"), roots=("", "bert.", "roberta.", "distilbert.", "mpnet.", "albert."),
    ),
    part(
        Kind.LANGUAGE_MODEL, "chatglm",
        Has("encoder.layers.0.self_attention.query_key_value.weight"), Has("embedding.word_embeddings.weight"),
        roots=("", "transformer."),
    ),
    part(Kind.LANGUAGE_MODEL, "peft", AdapterOf(LANGUAGE)),
    # what makes pictures larger or mends them, by the first layers of each published network
    part(
        Kind.UPSCALER, "compact",
        Dimensions("body.0.weight", 4), Width("body.0.weight", 1, 2, 3, 4), Dimensions("body.1.weight", 1), Dimensions("body.18.weight", 4),
        Only("body"), Words("body"),
        roots=_UPSCALER_ROOTS,
    ),
    part(
        Kind.UPSCALER, "dncnn",
        Width("model.0.weight", 1, 2, 3, 4), Dimensions("model.0.weight", 4), Width("model.0.weight", 3, axis=2),
        Dimensions("model.2.weight", 4), Dimensions("model.32.weight", 4),
        Words("model running_mean running_var num_batches_tracked"), roots=_UPSCALER_ROOTS,
    ),
    *table(Kind.UPSCALER, {
        "esrgan, first names": ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"),
        "esrgan": ("conv_first.weight", "body.0.rdb1.conv1.weight"),
        "transformer": (
            "conv_first.weight", ("conv_after_body.weight", "conv_last.weight"),
            ("layers.0.residual_group.blocks.0.norm1.weight", "layers.0.residual_group.layers.0.norm1.weight",
             "layers.0.swin1.attn.qkv.weight", "layers.0.blocks.0.attn.attns.0.pos.pos_proj.weight",
             "layers.0.blocks.0.attn.window_attn.attn_transform.cpb_mlp.0.weight"),
        ),
        "span": ("conv_1.sk.weight", "block_1.c1_r.sk.weight"),
        "plksr": ("feats.0.weight", ("feats.1.lk.conv.weight", "feats.1.channe_mixer.0.weight", "feats.1.channel_mixer.0.weight")),
        "omnisr": ("residual_layer.0.residual_layer.0.layer.0.fn.0.weight", "up.0.weight"),
        "realcugan": ("unet1.conv1.conv.0.weight", "unet2.conv1.conv.0.weight", "unet1.conv2.seblock.conv1.weight"),
        "swin2sr": ("swin2sr.first_convolution.weight", "swin2sr.encoder.stages.0.layers.0.attention.self.query.weight"),
        "codeformer": ("position_emb", "idx_pred_layer.0.weight", "ft_layers.0.self_attn.in_proj_weight"),
        "restoreformer": ("quantize.embedding.weight", "encoder.mid.attn_1.norm2.weight", "decoder.mid.attn_1.norm2.weight"),
        "gfpgan": ("conv_body_first.weight", "stylegan_decoder.constant_input.weight"),
        "lama": ("model.model.1.ffc.convl2l.weight", "model.model.4.ffc.convl2g.weight"),
        "restormer": (
            "patch_embed.proj.weight",
            ("encoder_level1.0.norm1.body.weight", "encoder_level1.0.norm2.body.weight", "encoder_level1.0.norm1.weight",
             "patch_unembed.proj.0.weight"),
            ("down1_2.body.0.weight", "down1_2.body.1.weight", "layer1.blocks.0.Wg.1.weight"),
        ),
        "rcan": ("sub_mean.weight", "add_mean.weight", ("head.0.weight", "head.0.0.weight"), ("tail.0.0.weight", "tail.0.1.weight")),
        "scunet": ("m_head.0.weight", "m_tail.0.weight", "m_body.0.trans_block.msa.embedding_layer.weight"),
        "drunet": ("m_head.weight", "m_tail.weight", "m_down1.0.res.0.weight"),
        "nafnet": ("intro.weight", "ending.weight", ("middle_blks.0.beta", "encoders.0.0.beta")),
        "fdat": ("conv_first.weight", "groups.0.blocks.0.n1.weight", "groups.0.blocks.0.inter.cg.1.weight"),
        "mosr": ("gblocks.0.weight", "gblocks.1.norm.weight", "gblocks.1.fc1.weight"),
        "moesr": ("in_to_dim.weight", "upscale.0.weight", "blocks.0.msg.gated.0.fc1.weight"),
        "seemore": ("conv_1.weight", "body.0.local_block.norm_1.weight", "body.0.global_block.norm_1.weight"),
        "seedvr2": ("vid_in.proj.weight", "emb_in.proj_in.weight", "blocks.0.attn.proj_qkv.vid.weight"),
        "latent": ("initial_conv.weight", "post_upsample_res_blocks.0.conv1.weight", "final_conv.weight"),
        "swiftsrgan": ("initial.cnn.depthwise.weight", "final_conv.pointwise.weight", "residual.0.block1.cnn.depthwise.weight"),
        "uformer": ("input_proj.proj.0.weight", "output_proj.proj.0.weight", "encoderlayer_0.blocks.0.norm1.weight"),
        "craft": ("relative_position_index_h", "biases_v", "layers.0.residual_group.hf_blocks.0.norm1.body.weight"),
        "ditn": ("sft.weight", "UFONE.0.ITLs.0.attn.qkv.weight"),
        "dctlsa": ("fea_conv.weight", "B1.body.0.transformer_body.0.blocks.0.attn.qkv.weight"),
        "retinexformer": ("body.0.estimator.conv1.weight", "body.0.denoiser.mapping.weight"),
        "hvi-cidnet": ("HVE_block0.1.weight", "trans.density_k"),
        "ddcolor": ("encoder.arch.downsample_layers.0.0.weight", "decoder.color_decoder.color_embed.layers.0.weight"),
        "femasr": ("multiscale_encoder.in_conv.weight", ("after_quant_group.0.weight", "after_quant_group.0.conv.weight")),
        "mprnet": ("shallow_feat1.0.weight", "concat12.weight", "stage1_encoder.encoder_level1.0.CA.conv_du.0.weight"),
        "mirnet": ("conv_in.weight", "body.0.body.0.dau_top.body.0.weight"),
        "mat": ("model.synthesis.first_stage.conv_first.conv.weight", "model.mapping.fc0.weight"),
    }, roots=_UPSCALER_ROOTS),
)  # fmt: skip
