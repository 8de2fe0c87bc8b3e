"""FLUX.1: 19 double and 38 single blocks of 3072 values. BFL's own names and diffusers' names.

Cut from it were Freepik's flux.1-lite-8B and ostris' Flex.1-alpha, which have the first 8 double blocks; Flex.2, which is
told a masked picture and a control beside the noise; and TencentARC's flux-mini.
"""

from __future__ import annotations

from dataclasses import replace

from probes.adapter_names import TEXT
from probes.adapter_rules import AdapterOf, AdapterWidth, Covers, Encoders, Fits, LeavesOut
from probes.families.transformer import JOINT, ROOTS, Naming, Transformer, attention, checkpoint, each, lora, square
from probes.report import Kind
from probes.rules import Blocks, Has, Width, Without
from probes.signature import ChannelVariants, Signature

WIDTH = 3072
MLP = 4 * WIDTH

BFL = Naming(
    {
        "double_blocks": (19, {
            f"{stream}_{path}": widths
            for stream in ("img", "txt")
            for path, widths in {
                "attn.qkv": (WIDTH, 3 * WIDTH), "attn.proj": (WIDTH, WIDTH), "mlp.0": (WIDTH, MLP), "mlp.2": (MLP, WIDTH),
                "mod.lin": (WIDTH, 6 * WIDTH),
                **square(WIDTH, *(f"attn.qkv.{part}" for part in range(3))),  # OMI's
            }.items()
        }),
        "single_blocks": (38, {
            "linear1": (WIDTH, 3 * WIDTH + MLP), "linear2": (WIDTH + MLP, WIDTH), "modulation.lin": (WIDTH, 3 * WIDTH),
            **square(WIDTH, *(f"linear1.{part}" for part in range(3))), "linear1.3": (WIDTH, MLP),  # OMI's
            "qkv": (WIDTH, 3 * WIDTH), "proj": (WIDTH + MLP, WIDTH),  # XLabs' adapters: linear1's part, and linear2
        }),
    },
    {
        "img_in": (64, WIDTH), "txt_in": (4096, WIDTH),
        "time_in.in_layer": (256, WIDTH), "time_in.out_layer": (WIDTH, WIDTH),
        "vector_in.in_layer": (768, WIDTH), "vector_in.out_layer": (WIDTH, WIDTH),
        "guidance_in.in_layer": (256, WIDTH), "guidance_in.out_layer": (WIDTH, WIDTH),
        "final_layer.linear": (WIDTH, 64), "final_layer.adaLN_modulation.1": (WIDTH, 2 * WIDTH),
    },
    beside="norm query_norm key_norm scale",
)  # fmt: skip
DIFFUSERS = Naming(
    {
        "transformer_blocks": (19, {
            **square(WIDTH, *attention("attn", *JOINT)), **each((WIDTH, 6 * WIDTH), "norm1.linear", "norm1_context.linear"),
            **each((WIDTH, 3 * WIDTH), "attn.to_qkv", "attn.to_added_qkv"),  # fused, as SimpleTuner may adapt them
            **each((WIDTH, MLP), "ff.net.0.proj", "ff_context.net.0.proj"), **each((MLP, WIDTH), "ff.net.2", "ff_context.net.2"),
        }),
        "single_transformer_blocks": (38, {
            **square(WIDTH, "attn.to_q", "attn.to_k", "attn.to_v"),
            "proj_mlp": (WIDTH, MLP), "proj_out": (WIDTH + MLP, WIDTH), "norm.linear": (WIDTH, 3 * WIDTH),
            "attn.to_qkv": (WIDTH, 3 * WIDTH),
        }),
    },
    {
        "x_embedder": (64, WIDTH), "context_embedder": (4096, WIDTH), "proj_out": (WIDTH, 64), "norm_out.linear": (WIDTH, 2 * WIDTH),
        **{
            f"time_text_embed.{part}.linear_{n}": ((inner if n == 1 else WIDTH), WIDTH)
            for part, inner in (("timestep_embedder", 256), ("text_embedder", 768), ("guidance_embedder", 256))
            for n in (1, 2)
        },
    },
    beside="norm_q norm_k norm_added_q norm_added_k",
)  # fmt: skip
DIFFSYNTH = Naming(
    {
        "blocks": (19, {
            **each((WIDTH, 3 * WIDTH), "attn.a_to_qkv", "attn.b_to_qkv"), **square(WIDTH, "attn.a_to_out", "attn.b_to_out"),
            **each((WIDTH, 6 * WIDTH), "norm1_a.linear", "norm1_b.linear"),
            **each((WIDTH, MLP), "ff_a.0", "ff_b.0"), **each((MLP, WIDTH), "ff_a.2", "ff_b.2"),
        }),
        "single_blocks": (38, {
            "to_qkv_mlp": (WIDTH, 3 * WIDTH + MLP), "proj_out": (WIDTH + MLP, WIDTH), "norm.linear": (WIDTH, 3 * WIDTH),
        }),
    },
    {},
)  # fmt: skip
"""DiffSynth-Studio's own names, which only its LoRAs have."""
FLUX1 = Transformer("FLUX.1", (BFL, DIFFUSERS, DIFFSYNTH))
_DOUBLE, _LITE_DOUBLE = 19, 8


def _cut(naming: Naming) -> Naming:
    """With the double blocks of the cut."""
    double = next(iter(naming.blocks))
    return replace(naming, blocks={**naming.blocks, double: (_LITE_DOUBLE, naming.blocks[double][1])})


LITE = Transformer("FLUX.1 lite", (_cut(BFL), _cut(DIFFUSERS)))


def unmodulated(naming: Naming) -> Naming:
    """The layers without those that modulate, or embed time and pooled text."""
    blocks = {
        prefix: (count, {path: widths for path, widths in layers.items() if "mod" not in path and "norm" not in path})
        for prefix, (count, layers) in naming.blocks.items()
    }
    kept = ("img_in", "txt_in", "final_layer.linear", "x_embedder", "context_embedder", "proj_out")
    return Naming(blocks, {path: widths for path, widths in naming.around.items() if path in kept}, naming.beside)


UNMODULATED = Transformer("Chroma", (unmodulated(BFL), unmodulated(DIFFUSERS)))
"""What Chroma has of FLUX.1's layers, under the same names."""


def _with_picture(name: str, channels: int) -> Transformer:
    """With a picture beside the noise: as many channels in."""
    return Transformer(
        f"FLUX.1 {name}",
        (
            Naming(BFL.blocks, {**BFL.around, "img_in": (channels, WIDTH)}),
            Naming(DIFFUSERS.blocks, {**DIFFUSERS.around, "x_embedder": (channels, WIDTH)}),
        ),
    )


NOT_XLABS = Without(
    *(f"*.processor.{part}_lora{stream}.down.weight" for part in ("qkv", "proj") for stream in ("1", "2", ""))
)
"""XLabs' names of adapted layers become those of BFL's, but nobody else writes them."""
_ENCODERS = Encoders(te1=768, te2=4096, te3=4096, text_encoder=768, text_encoder_2=4096)
_PICTURES = {128: "control", 384: "fill"}
_BFL = (
    Has("double_blocks.0.img_attn.qkv.weight"), Width("double_blocks.0.img_mlp.0.weight", WIDTH),
    Width("vector_in.in_layer.weight", 768), Width("txt_in.weight", 4096),
)  # fmt: skip
_DIFFUSERS = (
    Has("single_transformer_blocks.0.proj_mlp.weight"), Width("transformer_blocks.0.attn.add_q_proj.weight", WIDTH),
    Width("time_text_embed.text_embedder.linear_1.weight", 768), Width("context_embedder.weight", 4096),
)  # fmt: skip
_LAYOUTS = (
    ("bfl", BFL, _BFL, "guidance_in.in_layer.weight", "img_in.weight"),
    ("diffusers", DIFFUSERS, _DIFFUSERS, "time_text_embed.guidance_embedder.linear_1.weight", "x_embedder.weight"),
)
"""Layout, its naming, its rules, guidance embedding, first layer."""
_SINGLE = 38
_CUTS = {"lite": (64, _LITE_DOUBLE, _SINGLE), "flex-2": (196, _LITE_DOUBLE, _SINGLE), "mini": (64, 5, 10)}
"""Variant -> channels in, double and single blocks."""


def _depths(naming: Naming, *counts: int) -> tuple[Blocks, ...]:
    return tuple(Blocks(prefix, count) for prefix, count in zip(naming.blocks, counts, strict=True))


SIGNATURES = (
    *(
        checkpoint(
            "flux-1", layout, naming, *rules, *_depths(naming, _DOUBLE, _SINGLE), guided(guidance),
            variants=ChannelVariants(first, {64: normal, **_PICTURES}),
        )
        for layout, naming, rules, guidance, first in _LAYOUTS
        for guided, normal in ((Has, "dev"), (Without, "schnell"))
    ),
    *(
        checkpoint("flux-1", layout, naming, *rules, Width(first, channels), *_depths(naming, *counts), variant=variant)
        for layout, naming, rules, _, first in _LAYOUTS
        for variant, (channels, *counts) in _CUTS.items()
    ),
    *(
        Signature(
            Kind.CHECKPOINT, "flux-1", "nunchaku",
            (
                Has("single_transformer_blocks.0.norm.linear.qweight"), Has("transformer_blocks.0.mlp_context_fc1.qweight"),
                Width("x_embedder.weight", 64, 128, 384), Width("context_embedder.weight", 4096),
                *_depths(DIFFUSERS, _DOUBLE, _SINGLE),
                guided("time_text_embed.guidance_embedder.linear_1.weight"),
            ),
            ROOTS, ChannelVariants("x_embedder.weight", {64: normal, **_PICTURES}), prediction_type="flow",
        )
        for guided, normal in ((Has, "dev"), (Without, "schnell"))
    ),  # SVDQuant: four bits and a low-rank rest, attention fused
    Signature(Kind.LORA, "flux-1", None, (AdapterOf(), Fits(LITE), Covers(LITE), LeavesOut(FLUX1), _ENCODERS), variant="lite"),
    # Without modulation the layers are Chroma's, too. FLUX.1's own script adapts attention and the feed-forward of double
    # blocks alone, so this is read as FLUX.1's unless the layers (see chroma.py) or words speak for Chroma.
    lora("flux-1", FLUX1, _ENCODERS),
    *(
        Signature(
            Kind.LORA, "flux-1", None, (AdapterOf(), AdapterWidth(first, channels), Fits(_with_picture(name, channels))), variant=name
        )
        for channels, name in _PICTURES.items()
        for first in ("img_in", "x_embedder")
    ),
    Signature(Kind.LORA, "flux-1", None, (AdapterOf(TEXT), _ENCODERS)),
)  # fmt: skip
