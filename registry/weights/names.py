"""Tensor names: every layout's spelling -> one canonical spelling, which is diffusers' with the component in front.

`unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight`, `vae.decoder.conv_in.weight`,
`text_encoder.text_model.encoder.layers.0.mlp.fc1.weight`. Names only: no tensor and no torch in here.

The block arithmetic of the single-file ("LDM") layout is that of CompVis' `UNetModel` and `AutoencoderKL`; the tests hold it against
diffusers' `convert_ldm_unet_checkpoint`, `convert_ldm_vae_checkpoint` and `convert_open_clip_checkpoint`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from registry.weights.transformers import WHOLE, Rows, canonical_parts, transformer_in

COMPONENTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
"""The components of a diffusers folder whose tensors have canonical names."""

Shape = tuple[int, ...]
Pairs = list[tuple[str, str]]  # (LDM prefix, diffusers prefix)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a canonical tensor lies in a file, and what its value goes through on the way.

    `rows`: of a fused projection. `linear`: a 1x1 convolution that became a linear layer loses its trailing ones. `transposed`: stored
    [in, out]. `swapped`: its halves are exchanged.
    """

    name: str
    rows: Rows = WHOLE
    linear: bool = False
    transposed: bool = False
    swapped: bool = False

    def shape(self, stored: Shape) -> Shape:
        """The canonical tensor's shape, from the stored one's."""
        if self.rows != WHOLE:
            begin, end = self.span(stored[0])
            return (end - begin, *stored[1:])
        if self.linear:
            return stored[:2]
        return stored[::-1] if self.transposed else stored

    def span(self, rows: int) -> tuple[int, int]:
        """First and last row, of so many stored ones."""
        begin, end, parts = self.rows
        return begin * rows // parts, end * rows // parts


_NO_WEIGHTS = (
    "position_ids",
    "scaled_fp8",
    ".comfy_quant",
    ".scale_weight",
    ".weight_scale",
    ".scale_input",
    ".input_scale",
)
"""What is beside weights: buffers, and how ComfyUI's float8 files are scaled. Scales of activations concern products in float8 alone."""


def scales_of(stored: str) -> tuple[str, str]:
    """The two names that ComfyUI has had for what the values of a stored tensor are multiplied by."""
    return f"{stored.removesuffix('.weight')}.scale_weight", f"{stored}_scale"


def canonical_sources(names: Iterable[str], component: str | None) -> dict[str, Source]:
    """Canonical name -> where it lies, for the stored `names` of one file.

    `component` is the diffusers folder that the file lies in; None: a single file in its maker's layout. Tensors that are
    no weights of a component (schedules, EMA copies, `position_ids`) are left out; so is whatever has no known name.
    """
    stored = [name for name in names if not name.endswith(_NO_WEIGHTS)]
    if component is None:
        return _from_single_file(stored)
    if component == "vae":
        return {f"vae.{_modern_attention(name)}": Source(name, linear=_was_convolution(name)) for name in stored}
    if component.startswith("text_encoder"):
        return {f"{component}.{_with_text_model(name)}": Source(name) for name in stored}
    return {f"{component}.{name}": Source(name) for name in stored}


# --- single files ----------------------------------------------------------------------------------------------------

_DENOISER = "model.diffusion_model."
_VAES = ("first_stage_model.", "vae.")
_ENCODERS = re.compile(r"text_encoders\.(\w+)\.transformer\.(.+)")
_CLIP = {"cond_stage_model.transformer.": "text_encoder", "conditioner.embedders.0.transformer.": "text_encoder"}
_OPEN_CLIP = {
    "cond_stage_model.model.": "text_encoder",
    "conditioner.embedders.0.model.": "text_encoder",
    "conditioner.embedders.1.model.": "text_encoder_2",
}


def _from_single_file(names: list[str]) -> dict[str, Source]:
    found: dict[str, Source] = {}
    bare = transformer_in(names)
    prefix = "" if bare else _DENOISER
    denoiser = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    if made := bare or transformer_in(denoiser):
        for ours, stored, rows, swapped in canonical_parts(made, denoiser):
            found[f"transformer.{ours}"] = Source(prefix + stored, rows, swapped=swapped)
        for name in names:
            if (match := _ENCODERS.fullmatch(name)) and (encoder := made.encoders.get(match[1])):
                found[f"{encoder}.{_with_text_model(match[2])}"] = Source(name)
    else:
        unet_table = dict(_unet_pairs(*_unet_plan_of_ldm(denoiser)))
        for name in denoiser:
            if renamed := _rename(name, unet_table):
                found[f"unet.{renamed}"] = Source(prefix + name)
    for prefix in _VAES:
        vae = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        vae_table = dict(_vae_pairs(*_vae_plan_of_ldm(vae)))
        for name in vae:
            if renamed := _rename(name, vae_table):
                found[f"vae.{renamed}"] = Source(prefix + name, linear=_was_convolution(renamed))
    for name in names:
        for prefix, component in _CLIP.items():
            if name.startswith(prefix) and not name.endswith("logit_scale"):
                found[f"{component}.{_with_text_model(name.removeprefix(prefix))}"] = Source(name)
        for prefix, component in _OPEN_CLIP.items():
            if name.startswith(prefix):
                found |= {f"{component}.{key}": source for key, source in _from_open_clip(name, prefix).items()}
    return found


def _rename(name: str, prefixes: Mapping[str, str]) -> str | None:
    """`name` with its longest known prefix (whole dotted parts) replaced."""
    stem = name
    while stem:
        if stem in prefixes:
            return prefixes[stem] + name[len(stem) :]
        stem = stem.rpartition(".")[0]
    return None


_UNET_TOP: Pairs = [
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("time_embed.cond_proj", "time_embedding.cond_proj"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
]
_RESNET: Pairs = [
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
]


def _unet_pairs(levels: int, layers: int, attended: Collection[int]) -> Pairs:
    """Prefix pairs of a UNet of `levels` resolutions with `layers` resnets each.

    `attended` are the up levels whose last layer has attention: there the upsampler is the third part of its LDM block, else the second.
    """
    pairs = list(_UNET_TOP)

    def resnet(ldm: str, ours: str) -> None:
        pairs.extend((f"{ldm}.{a}", f"{ours}.{b}") for a, b in _RESNET)

    for level in range(levels):
        for layer in range(layers):
            block = level * (layers + 1) + layer + 1
            resnet(f"input_blocks.{block}.0", f"down_blocks.{level}.resnets.{layer}")
            pairs.append((f"input_blocks.{block}.1", f"down_blocks.{level}.attentions.{layer}"))
        down = (level + 1) * (layers + 1)
        pairs.append((f"input_blocks.{down}.0.op", f"down_blocks.{level}.downsamplers.0.conv"))
        for layer in range(layers + 1):
            block = level * (layers + 1) + layer
            resnet(f"output_blocks.{block}.0", f"up_blocks.{level}.resnets.{layer}")
            pairs.append((f"output_blocks.{block}.1", f"up_blocks.{level}.attentions.{layer}"))
        part = 2 if level in attended else 1
        pairs.append((f"output_blocks.{down - 1}.{part}.conv", f"up_blocks.{level}.upsamplers.0.conv"))
    resnet("middle_block.0", "mid_block.resnets.0")
    pairs.append(("middle_block.1", "mid_block.attentions.0"))
    resnet("middle_block.2", "mid_block.resnets.1")
    return pairs


def _numbers(pattern: str, names: Iterable[str]) -> set[int]:
    return {int(match[1]) for name in names if (match := re.match(pattern, name))}


def _unet_plan_of_ldm(names: Collection[str]) -> tuple[int, int, set[int]]:
    downs = _numbers(r"input_blocks\.(\d+)\.0\.op\.", names)
    layers = min(downs) - 1 if downs else max(_numbers(r"input_blocks\.(\d+)\.", names), default=0)
    ups = _numbers(r"output_blocks\.(\d+)\.2\.conv\.", names)
    return len(downs) + 1, layers, {block // (layers + 1) for block in ups}


def _unet_plan_of_diffusers(names: Collection[str]) -> tuple[int, int, set[int]]:
    levels = max(_numbers(r"down_blocks\.(\d+)\.", names), default=0) + 1
    layers = max(_numbers(r"down_blocks\.0\.resnets\.(\d+)\.", names), default=-1) + 1
    return levels, layers, _numbers(rf"up_blocks\.(\d+)\.attentions\.{layers}\.", names)


def ldm_unet_names(base: Collection[str]) -> Callable[[str], str | None]:
    """A UNet module's name in diffusers' spelling -> in LDM's, for the UNet that is among the canonical names `base`."""
    plan = _unet_plan_of_diffusers([name.removeprefix("unet.") for name in base if name.startswith("unet.")])
    table = {ours: ldm for ldm, ours in _unet_pairs(*plan)}
    return lambda module: _rename(module, table)


_VAE_SAME = ("conv_in", "conv_out")
_VAE_ATTENTION: Pairs = [
    ("norm", "group_norm"),
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("proj_out", "to_out.0"),
]


def _vae_plan_of_ldm(names: Collection[str]) -> tuple[int, int]:
    levels = max(_numbers(r"(?:encoder\.down|decoder\.up)\.(\d+)\.", names), default=-1) + 1
    blocks = max(_numbers(r"(?:encoder\.down|decoder\.up)\.\d+\.block\.(\d+)\.", names), default=-1) + 1
    return levels, blocks


def _vae_pairs(levels: int, blocks: int) -> Pairs:
    """Prefix pairs of a VAE of `levels` resolutions with at most `blocks` resnets each (the decoder has one more than the encoder)."""
    pairs: Pairs = [("quant_conv", "quant_conv"), ("post_quant_conv", "post_quant_conv")]

    def resnet(ldm: str, ours: str) -> None:
        pairs.extend([(ldm, ours), (f"{ldm}.nin_shortcut", f"{ours}.conv_shortcut")])

    for half in ("encoder", "decoder"):
        pairs += [(f"{half}.{same}", f"{half}.{same}") for same in _VAE_SAME]
        pairs.append((f"{half}.norm_out", f"{half}.conv_norm_out"))
        pairs += [(f"{half}.mid.attn_1.{a}", f"{half}.mid_block.attentions.0.{b}") for a, b in _VAE_ATTENTION]
        for index in (0, 1):
            resnet(f"{half}.mid.block_{index + 1}", f"{half}.mid_block.resnets.{index}")
    for level in range(levels):
        other = levels - 1 - level  # LDM numbers the decoder's levels by resolution, diffusers by order of use
        for block in range(blocks):
            resnet(f"encoder.down.{level}.block.{block}", f"encoder.down_blocks.{level}.resnets.{block}")
            resnet(f"decoder.up.{level}.block.{block}", f"decoder.up_blocks.{other}.resnets.{block}")
        pairs.append((f"encoder.down.{level}.downsample", f"encoder.down_blocks.{level}.downsamplers.0"))
        pairs.append((f"decoder.up.{level}.upsample", f"decoder.up_blocks.{other}.upsamplers.0"))
    return pairs


_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def _modern_attention(name: str) -> str:
    """VAE attention as diffusers spells it since 0.17; the published SD 1.5 folder still has the older names."""
    if ".attentions." in name:
        for old, new in _OLD_ATTENTION.items():
            name = name.replace(old, new)
    return name


def _was_convolution(name: str) -> bool:
    """VAE attention projections: 1x1 convolutions in LDM, linear layers in diffusers."""
    return ".attentions." in name and name.endswith(".weight") and "group_norm" not in name


def _with_text_model(name: str) -> str:
    """transformers 5 writes CLIP without the `text_model.` that every earlier file has; the projection never had it, nor has T5."""
    return name if name.startswith(("text_model.", "text_projection.", *_T5)) else f"text_model.{name}"


_T5 = ("shared.", "encoder.block.", "encoder.final_layer_norm.", "encoder.embed_tokens.")


_OPEN_CLIP_TOP = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def _from_open_clip(stored: str, prefix: str) -> dict[str, Source]:
    """One stored OpenCLIP tensor as CLIP's: its fused q, k, v projection becomes three."""
    name = stored.removeprefix(prefix)
    if name in _OPEN_CLIP_TOP:
        return {_OPEN_CLIP_TOP[name]: Source(stored, transposed=name == "text_projection")}
    if not (match := re.match(r"transformer\.resblocks\.(\d+)\.(.+)$", name)):
        return {}
    layer, rest = f"text_model.encoder.layers.{match[1]}", match[2]
    if rest.startswith("attn.in_proj_"):
        kind = rest.removeprefix("attn.in_proj_")
        return {f"{layer}.self_attn.{qkv}_proj.{kind}": Source(stored, (i, i + 1, 3)) for i, qkv in enumerate("qkv")}
    renamed = _rename(rest, _OPEN_CLIP_LAYER)
    return {f"{layer}.{renamed}": Source(stored)} if renamed else {}
