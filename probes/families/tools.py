"""Networks that people keep beside image models: they look at pictures, tag, cut out, measure and animate them.

By the names of the published classes: transformers', or those of the repository that a layout is called by.
"""

from __future__ import annotations

from probes.families.part import part, table
from probes.report import Kind
from probes.rules import Begins, Dimensions, Either, Has, Only, Width

_STEM = "patch_embed.proj.weight"

SIGNATURES = (
    *table(Kind.SEGMENTER, {
        "sam": (
            ("image_encoder.pos_embed", "image_encoder.patch_embed.proj.weight"), "mask_decoder.iou_token.weight",
            "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        ),
        "sam, transformers": ("shared_image_embedding.positional_embedding", "mask_decoder.iou_token.weight"),
        "sam 2": ("image_encoder.trunk.patch_embed.proj.weight", "sam_mask_decoder.iou_token.weight"),
        "sam 3": ("vision_encoder.backbone.embeddings.patch_embeddings.projection.weight", "geometry_encoder.label_embed.weight"),
        "birefnet": ("bb.patch_embed.proj.weight", "squeeze_module.0.conv_in.weight"),
        "u2net": ("stage1.rebnconvin.conv_s1.weight", "side1.weight"),
        "clipseg": ("decoder.film_mul.weight", "clip.text_model.embeddings.token_embedding.weight"),
        "segformer": (
            ("segformer.encoder.patch_embeddings.0.proj.weight", "segformer.stages.0.patch_embeddings.proj.weight"),
            ("decode_head.linear_c.0.proj.weight", "decode_head.linear_projections.0.proj.weight"),
        ),
        "upernet": ("decode_head.psp_modules.0.1.conv.weight", "decode_head.fpn_bottleneck.conv.weight"),
        "bisenet": ("cp.resnet.conv1.weight", "ffm.convblk.conv.weight"),
    }, roots=("", "detector_model.")),
    *table(Kind.DETECTOR, {
        "grounding dino": (
            ("model.level_embed", "transformer.level_embed"),
            ("model.text_backbone.embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings.weight"),
        ),
        "owl-vit": (("owlvit.logit_scale", "owlv2.logit_scale"), "box_head.dense0.weight"),
        "yolos": ("vit.embeddings.detection_tokens", "bbox_predictor.layers.0.weight"),
        "openpose": (
            ("model0.conv1_1.weight", "model1_0.conv1_1.weight"), ("model1_1.conv5_1_CPM_L1.weight", "model1_1.conv6_1_CPM.weight"),
        ),
        "hed": ("block1.convs.0.weight", "block1.projection.weight", "block5.projection.weight"),
        "mlsd": ("backbone.features.0.0.weight", "block15.conv1.0.weight", "block23.conv1.0.weight"),
        "line art": ("model0.1.weight", "model2.0.conv_block.1.weight", "model4.1.weight"),
    }),
    part(
        Kind.DETECTOR, "yolo",
        Dimensions("model.0.conv.weight", 4), Has("model.0.bn.weight"), Begins("model..m..cv.conv.", "model..cv.conv."),
        Only("model"), roots=("", "model."),
    ),
    *table(Kind.DEPTH_ESTIMATOR, {
        "depth anything": (
            "pretrained.cls_token", ("depth_head.projects.0.weight", "head.projects.0.weight"), "pretrained.blocks.0.attn.qkv.weight",
        ),
        "depth anything, transformers": (
            "backbone.embeddings.cls_token", "neck.reassemble_stage.layers.0.projection.weight", "head.conv1.weight",
        ),
        "dpt, transformers": (
            ("dpt.embeddings.cls_token", "dpt.embeddings.backbone_contents.0.weight", "neck.reassemble_stage.readout_projects.0.0.weight"),
            "neck.fusion_stage.layers.0.projection.weight", ("head.head.0.weight", "metric_head.conv2.weight"),
        ),
        "midas": ("scratch.layer1_rn.weight", ("pretrained.model.pos_embed", "pretrained.model.patch_embed.proj.weight",
                  "pretrained.layer1.0.weight", "pretrained.layer1.0.0.conv_pw.weight")),
        "depth pro": (("encoder.patch_encoder.cls_token", "depth_pro.encoder.patch_encoder.model.embeddings.cls_token"),
                      ("encoder.image_encoder.cls_token", "depth_pro.encoder.image_encoder.model.embeddings.cls_token"),
                      ("head.0.weight", "head.layers.0.weight")),
    }, roots=("", "core.core.")),
    # a timm classifier has nothing beside these; taggers and scorers are such
    part(
        Kind.CLASSIFIER, "timm vit",
        Width(_STEM, 3), Has("head.weight"), Has("blocks.0.attn.qkv.weight", "blocks.0.attn.q_proj.weight"),
        Only("cls_token", "reg_token", "pos_embed", "patch_embed", "blocks", "norm_pre", "norm", "fc_norm", "head"),
    ),
    part(
        Kind.CLASSIFIER, "timm swin",
        Width(_STEM, 3), Has("head.fc.weight"), Begins("layers..blocks..attn.qkv."),
        Only("patch_embed", "layers", "norm", "head"),
    ),
    part(
        Kind.CLASSIFIER, "timm convnext",
        Width("stem.0.weight", 3), Has("head.fc.weight"), Has("stages.0.blocks.0.conv_dw.weight"),
        Only("stem", "stages", "norm_pre", "head"),
    ),
    part(
        Kind.CLASSIFIER, "aesthetic predictor",
        Width("layers.0.weight", 768), Width("layers.0.weight", 1024, axis=0), Width("layers.7.weight", 16), Only("layers"),
    ),
    *table(Kind.INTERPOLATOR, {
        "rife": tuple(f"block{block}.conv0.{layer}.0.weight" for block in range(3) for layer in range(2)),
        "film": ("extract.extract_sublevels.convs.0.0.0.weight", "fuse.convs.3.0.weight"),
    }, roots=("", "module.", "flownet.", "module.flownet.")),
    *table(Kind.FACE_ANIMATOR, {
        "liveportrait, appearance": ("resblocks_3d.3dr0.conv1.weight", "first.conv.weight"),
        "liveportrait, motion": ("detector.fc_kp.weight", "detector.fc_pitch.weight"),
        "liveportrait, warping": ("dense_motion_network.mask.weight", "third.conv.weight"),
        "liveportrait, generator": (
            ("G_middle_0.conv_0.weight_orig", "G_middle_0.conv_0.weight"), "G_middle_0.norm_0.mlp_shared.0.weight",
        ),
        "liveportrait, stitching": ("retarget_shoulder_module.mlp.0.weight", "retarget_mouth_module.mlp.0.weight"),
    }),
    part(
        Kind.HYPERNETWORK, "webui",
        Either(*(Width(f"{width}.0.linear.0.weight", width) for width in (320, 640, 768, 1280))), Only(""),
    ),  # numbered by the width that each changes
    *table(Kind.LANGUAGE_MODEL, {
        "florence-2": (
            ("vision_tower.convs.0.proj.weight", "model.vision_tower.convs.0.conv.weight"),
            ("image_proj_norm.weight", "model.multi_modal_projector.image_proj_norm.weight"),
        ),
        "blip": (
            ("vision_model.embeddings.class_embedding", "visual_encoder.patch_embed.proj.weight"),
            "text_decoder.bert.embeddings.word_embeddings.weight",
        ),
        "blip-2": ("query_tokens", ("qformer.encoder.layer.0.attention.attention.query.weight", "qformer.layernorm.weight")),
        "git": ("git.embeddings.word_embeddings.weight", "git.visual_projection.visual_projection.0.weight"),
    }),
)  # fmt: skip
