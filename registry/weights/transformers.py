"""The transformers of Stable Diffusion 3 and FLUX.1: their makers' module names -> diffusers', which are canonical here. Names only.

The makers fuse projections that diffusers keeps apart; such a module means several canonical ones, which lie one upon the other in it.
The tests hold the tables against diffusers' converters. Of two layers diffusers exchanges the halves (the modulation of the last layer,
and SD 3's last context block's): they are read so from a file, and an adapter of theirs is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

Modules = Mapping[str, tuple[str, ...]]

_QKV = ("attn.to_q", "attn.to_k", "attn.to_v")
_ADDED_QKV = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")


@dataclass(frozen=True, slots=True)
class Transformer:
    """`blocks`: (how the maker calls a stack of blocks, diffusers' name of it, module -> modules within a block); `top`: outside of them.

    `tells`: canonical modules that together only this transformer has. `norms`: as `blocks`, of what no adapter names. `encoders`: text
    encoder, as ComfyUI calls it in files of the whole -> its component. `not_last`: modules whose halves the last block has exchanged.
    """

    tells: tuple[str, ...]
    blocks: tuple[tuple[str, str, Modules], ...]
    top: Modules
    norms: tuple[tuple[str, Mapping[str, str]], ...]
    encoders: Mapping[str, str]
    not_last: frozenset[str] = frozenset()


FLUX = Transformer(
    tells=("single_transformer_blocks.0.proj_mlp", "transformer_blocks.0.ff_context.net.2"),
    blocks=(
        (
            "double_blocks",
            "transformer_blocks",
            {
                "img_attn.qkv": _QKV,
                "img_attn.proj": ("attn.to_out.0",),
                "txt_attn.qkv": _ADDED_QKV,
                "txt_attn.proj": ("attn.to_add_out",),
                "img_mlp.0": ("ff.net.0.proj",),
                "img_mlp.2": ("ff.net.2",),
                "txt_mlp.0": ("ff_context.net.0.proj",),
                "txt_mlp.2": ("ff_context.net.2",),
                "img_mod.lin": ("norm1.linear",),
                "txt_mod.lin": ("norm1_context.linear",),
                # XLabs' adapters, "processor.qkv_lora1"
                "processor.qkv1": _QKV,
                "processor.qkv2": _ADDED_QKV,
                "processor.proj1": ("attn.to_out.0",),
                "processor.proj2": ("attn.to_add_out",),
            },
        ),
        (
            "single_blocks",
            "single_transformer_blocks",
            {
                "linear1": (*_QKV, "proj_mlp"),
                "linear2": ("proj_out",),
                "modulation.lin": ("norm.linear",),
            },
        ),
    ),
    top={
        "img_in": ("x_embedder",),
        "txt_in": ("context_embedder",),
        "time_in.in_layer": ("time_text_embed.timestep_embedder.linear_1",),
        "time_in.out_layer": ("time_text_embed.timestep_embedder.linear_2",),
        "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
        "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
        "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
        "guidance_in.out_layer": ("time_text_embed.guidance_embedder.linear_2",),
        "final_layer.linear": ("proj_out",),
    },
    norms=(
        (
            "double_blocks",
            {
                "img_attn.norm.query_norm": "attn.norm_q",
                "img_attn.norm.key_norm": "attn.norm_k",
                "txt_attn.norm.query_norm": "attn.norm_added_q",
                "txt_attn.norm.key_norm": "attn.norm_added_k",
            },
        ),
        ("single_blocks", {"norm.query_norm": "attn.norm_q", "norm.key_norm": "attn.norm_k"}),
    ),
    encoders={"clip_l": "text_encoder", "t5xxl": "text_encoder_2"},
)

SD3 = Transformer(
    tells=("pos_embed.proj", "transformer_blocks.0.norm1_context.linear"),
    blocks=(
        (
            "joint_blocks",
            "transformer_blocks",
            {
                "x_block.attn.qkv": _QKV,
                "x_block.attn.proj": ("attn.to_out.0",),
                "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
                "x_block.attn2.proj": ("attn2.to_out.0",),
                "x_block.mlp.fc1": ("ff.net.0.proj",),
                "x_block.mlp.fc2": ("ff.net.2",),
                "x_block.adaLN_modulation.1": ("norm1.linear",),
                "context_block.attn.qkv": _ADDED_QKV,
                "context_block.attn.proj": ("attn.to_add_out",),
                "context_block.mlp.fc1": ("ff_context.net.0.proj",),
                "context_block.mlp.fc2": ("ff_context.net.2",),
                "context_block.adaLN_modulation.1": ("norm1_context.linear",),
            },
        ),
    ),
    top={
        "x_embedder.proj": ("pos_embed.proj",),
        "context_embedder": ("context_embedder",),
        "t_embedder.mlp.0": ("time_text_embed.timestep_embedder.linear_1",),
        "t_embedder.mlp.2": ("time_text_embed.timestep_embedder.linear_2",),
        "y_embedder.mlp.0": ("time_text_embed.text_embedder.linear_1",),
        "y_embedder.mlp.2": ("time_text_embed.text_embedder.linear_2",),
        "final_layer.linear": ("proj_out",),
    },
    norms=(
        (
            "joint_blocks",
            {
                "x_block.attn.ln_q": "attn.norm_q",
                "x_block.attn.ln_k": "attn.norm_k",
                "x_block.attn2.ln_q": "attn2.norm_q",
                "x_block.attn2.ln_k": "attn2.norm_k",
                "context_block.attn.ln_q": "attn.norm_added_q",
                "context_block.attn.ln_k": "attn.norm_added_k",
            },
        ),
    ),
    encoders={"clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5xxl": "text_encoder_3"},
    not_last=frozenset({"context_block.adaLN_modulation.1"}),
)

TRANSFORMERS = (FLUX, SD3)


def transformer_of(modules: Collection[str]) -> Transformer | None:
    """Which one has these modules, in diffusers' spelling; None: one whose names are not known here."""
    return next((made for made in TRANSFORMERS if all(name in modules for name in made.tells)), None)


def makers_names(modules: Collection[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(module as the maker calls it, canonical modules), for the transformer that has the canonical `modules`."""
    if (made := transformer_of(modules)) is None:
        return
    for theirs, ours in made.top.items():
        if all(name in modules for name in ours):
            yield theirs, ours
    for their_stack, our_stack, table in made.blocks:
        numbers = {int(match[1]) for name in modules if (match := re.match(rf"{our_stack}\.(\d+)\.", name))}
        for number in sorted(numbers):
            for theirs, ours in table.items():
                wanted = tuple(f"{our_stack}.{number}.{name}" for name in ours)
                if all(name in modules for name in wanted) and not (theirs in made.not_last and number == max(numbers)):
                    yield f"{their_stack}.{number}.{theirs}", wanted


Rows = tuple[int, int, int]
"""(from, to, of): of a stored tensor's rows, divided into `of` equal parts, those from one part up to another."""
WHOLE: Rows = (0, 1, 1)
_WIDTHS = {"proj_mlp": 4}
"""Rows for each of q's: FLUX.1's MLP is 4 times as wide, for its maker as in diffusers."""


def transformer_in(stored: Collection[str]) -> Transformer | None:
    """Which one's tensors these are, in its maker's spelling."""
    stacks = {name.partition(".")[0] for name in stored}
    return next((made for made in TRANSFORMERS if all(theirs in stacks for theirs, *_ in made.blocks)), None)


def canonical_parts(made: Transformer, stored: Collection[str]) -> Iterator[tuple[str, str, Rows, bool]]:
    """(canonical name, stored name, rows, whether its halves are exchanged) for what is known of the maker's `stored` names."""
    blocks = {theirs: (ours, dict(table)) for theirs, ours, table in made.blocks}
    for stack, norms in made.norms:
        blocks[stack][1].update({theirs: (ours,) for theirs, ours in norms.items()})
    last = {
        stack: max((int(match[1]) for name in stored if (match := re.match(rf"{stack}\.(\d+)\.", name))), default=0)
        for stack in blocks
    }
    for name in stored:
        module, _, kind = name.rpartition(".")
        prefix, swapped = "", module in _SWAPPED
        ours = _SWAPPED.get(module) or made.top.get(module, ())
        if match := _IN_BLOCK.fullmatch(module):
            stack, number, module = match.groups()
            our_stack, table = blocks.get(stack, ("", {}))
            prefix, ours = f"{our_stack}.{number}.", table.get(module, ())
            swapped = module in made.not_last and int(number) == last[stack]
        if name == "pos_embed":
            yield "pos_embed.pos_embed", name, WHOLE, False
        widths = [_WIDTHS.get(part, 1) for part in ours]
        for index, part in enumerate(ours):
            begins = sum(widths[:index])
            rows = (begins, begins + widths[index], sum(widths)) if len(ours) > 1 else WHOLE
            yield f"{prefix}{part}.{'weight' if kind == 'scale' else kind}", name, rows, swapped


_IN_BLOCK = re.compile(r"(\w+)\.(\d+)\.(.+)")
_SWAPPED = {"final_layer.adaLN_modulation.1": ("norm_out.linear",)}
