"""Wan 2.x video: blocks of self- and cross-attention over UMT5 text (4096); 1.3B, 5B and 14B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from probes.adapter_rules import AdapterOf, AdapterWidth, Encoders, Fits
from probes.families.transformer import Naming, Transformer, attention, checkpoint, lora, square
from probes.report import Kind
from probes.rules import Blocks, Dimensions, Either, Has, Width
from probes.signature import ChannelVariants, Signature


def _around(width: int, channels: int, names: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    widths = {
        "patch": (channels, width), "head": (width, 4 * channels), "time.0": (256, width), "time.1": (width, width),
        "projection": (width, 6 * width), "text.0": (4096, width), "text.1": (width, width),
        "picture.0": (1280, 1280), "picture.1": (1280, width),
    }  # fmt: skip
    return {names[part]: pair for part, pair in widths.items()}


_ORIGINAL = {
    "patch": "patch_embedding", "head": "head.head", "time.0": "time_embedding.0", "time.1": "time_embedding.2",
    "projection": "time_projection.1", "text.0": "text_embedding.0", "text.1": "text_embedding.2",
    "picture.0": "img_emb.proj.1", "picture.1": "img_emb.proj.3",
}  # fmt: skip
_DIFFUSERS = {
    "patch": "patch_embedding", "head": "proj_out", "time.0": "condition_embedder.time_embedder.linear_1",
    "time.1": "condition_embedder.time_embedder.linear_2", "projection": "condition_embedder.time_proj",
    "text.0": "condition_embedder.text_embedder.linear_1", "text.1": "condition_embedder.text_embedder.linear_2",
    "picture.0": "condition_embedder.image_embedder.ff.net.0.proj", "picture.1": "condition_embedder.image_embedder.ff.net.2",
}  # fmt: skip


def _original(count: int, width: int, mlp: int, channels: int) -> Naming:
    """The `_img` layers, as diffusers' `add_` layers, exist in the picture-to-video models of Wan 2.1."""
    block = {
        **square(width, *(f"{a}.{p}" for a in ("self_attn", "cross_attn") for p in "qkvo"), "cross_attn.k_img", "cross_attn.v_img"),
        "ffn.0": (width, mlp), "ffn.2": (mlp, width),
    }  # fmt: skip
    beside = "norm3 norm_q norm_k norm_k_img modulation img_emb emb_pos"
    return Naming({"blocks": (count, block)}, _around(width, channels, _ORIGINAL), beside)


def _diffusers(count: int, width: int, mlp: int, channels: int) -> Naming:
    block = {
        **square(width, *attention("attn1"), *attention("attn2"), "attn2.add_k_proj", "attn2.add_v_proj"),
        "ffn.net.0.proj": (width, mlp), "ffn.net.2": (mlp, width),
    }  # fmt: skip
    beside = "norm1 norm2 norm_q norm_k norm_added_k scale_shift_table pos_embed"
    return Naming({"blocks": (count, block)}, _around(width, channels, _DIFFUSERS), beside)


_ADDED = {
    # what else a model is told: variant -> its first tensor, and the words of its modules
    "camera": ("control_adapter.conv.weight", "control_adapter conv residual_blocks conv1 conv2"),
    "humo": (
        "audio_proj.audio_proj_glob_1.layer.weight",
        "audio_proj audio_proj_glob_1 audio_proj_glob_2 audio_proj_glob_3 audio_proj_glob_norm layer audio_cross_attn_wrapper "
        "audio_cross_attn norm1_audio",
    ),
    "s2v": (
        "casual_audio_encoder.encoder.final_linear.weight",
        "trainable_cond_mask casual_audio_encoder weights encoder padding_tokens conv1_local conv1_global conv2 conv3 conv final_linear "
        "cond_encoder audio_injector injector injector_adain_layers injector_pre_norm_feat injector_pre_norm_vec linear frame_packer "
        "proj proj_2x proj_4x norm norm1 norm2 norm_feat",
    ),
    "animate": (
        "face_adapter.fuser_blocks.0.k_norm.weight",
        "pose_patch_embedding face_adapter fuser_blocks linear1_kv linear1_q linear2 q_norm k_norm motion_encoder enc dec net_app fc "
        "convs skip kernel direction face_encoder conv1_local conv2 conv3 conv out_proj padding_tokens norm1 norm2 norm activate",
    ),
    "control": ("ref_conv.weight", "ref_conv"),
}  # fmt: skip
"""Of Fun-Camera, HuMo, S2V, Animate and Fun-Control, in their own names. Each has Wan's layers and more."""


def _with(naming: Naming, words: str) -> Naming:
    return Naming(naming.blocks, naming.around, f"{naming.beside} {words}")


def _nested(naming: Naming) -> Naming:
    """With each block in a block of its own, as Animate 2 has them."""
    ((prefix, (count, block)),) = naming.blocks.items()
    return Naming(
        {prefix: (count, {f"block.{path}": widths for path, widths in block.items()})}, naming.around, naming.beside
    )


def _vace(naming: Naming, count: int) -> Naming:
    """With VACE's blocks, which diffusers names otherwise."""
    ((_, block),) = naming.blocks.values()
    width = naming.around["patch_embedding"][1]
    block = {**block, **square(width, "before_proj", "after_proj", "proj_in", "proj_out")}
    return Naming(
        {**naming.blocks, "vace_blocks": (count, block)}, naming.around, f"{naming.beside} vace_patch_embedding"
    )


_PICTURES = Either(*(Dimensions("patch_embedding.weight", count) for count in (5, 4)))
"""Patches are cut from pictures (GGUF knows four dimensions at most): MOVA has Wan's very layers for sound, in patches of one."""
_SIZES = {"1.3b": (30, 1536, 8960, 16), "5b": (30, 3072, 14336, 48), "14b": (40, 5120, 13824, 16)}
_VACE = {"1.3b": 15, "5b": 0, "14b": 8}
"""How many blocks of VACE's read what is to be edited."""
_CHANNELS = {16: "text-to-video", 36: "image-to-video", 48: "control"}
"""Of noise alone, or with a first picture and its mask, or with Fun-Control's video and first picture; the 5B's latents have 48."""


def _lora(size: str, namings: tuple[Naming, ...], channels: int | None) -> Signature:
    """LoRAs; `channels`: of the first layer, where that is adapted and takes in more than noise."""
    if channels is None:
        return lora("wan", Transformer(f"Wan {size}", namings), Encoders())
    width = namings[0].around["patch_embedding"][1]
    first = {"patch_embedding": (channels, width)}
    wider = Transformer(f"Wan {size}", tuple(replace(naming, around={**naming.around, **first}) for naming in namings))
    return Signature(Kind.LORA, "wan", None, (AdapterOf(), AdapterWidth("patch_embedding", channels), Fits(wider)))


SIGNATURES = tuple(
    signature
    for name, (count, width, *rest) in _SIZES.items()
    for channels in [{48: "text-image-to-video"} if name == "5b" else _CHANNELS]
    for original, diffusers in [(_original(count, width, *rest), _diffusers(count, width, *rest))]
    for signature in (
        *(
            checkpoint("wan", layout, naming, *rules, Blocks("blocks", count), _PICTURES, *more, variant=variant, variants=variants)
            for layout, plain, rules, added in (
                (
                    "original", original,
                    (Has("head.modulation"), Width("blocks.0.self_attn.q.weight", width), Width("text_embedding.0.weight", 4096)),
                    _ADDED,
                ),
                (
                    "diffusers", diffusers,
                    (
                        Has("condition_embedder.time_proj.weight"), Width("blocks.0.attn1.to_q.weight", width),
                        Width("condition_embedder.text_embedder.linear_1.weight", 4096),
                    ),
                    {},
                ),
            )
            for naming, more, variant, variants in (
                (plain, (), None, ChannelVariants("patch_embedding.weight", channels)),
                (_vace(plain, _VACE[name]), (Has("vace_patch_embedding.weight"),), "vace", None),
                *((_with(plain, words), (Has(first),), variant, None) for variant, (first, words) in added.items()),
            )
        ),
        *(
            _lora(name, (_vace(original, _VACE[name]), _vace(diffusers, _VACE[name])), number if number != rest[1] else None)
            for number in channels
        ),
    )
)  # fmt: skip
SIGNATURES += (
    checkpoint(
        "wan", "original", _nested(_original(*_SIZES["14b"])),
        Has("head.modulation"), Width("blocks.0.block.self_attn.q.weight", 5120), Width("text_embedding.0.weight", 4096),
        Blocks("blocks", 40), variant="animate-2",
    ),
)  # fmt: skip
