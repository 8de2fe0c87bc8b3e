"""FLUX.1: 19 double and 38 single blocks of 3072 values. BFL's own names and diffusers' names."""

from __future__ import annotations

from probes.adapters import TEXT
from probes.families.transformer import ROOTS, Naming, Transformer
from probes.report import Kind
from probes.rules import AdapterOf, AdapterWidth, Blocks, Claimed, Encoders, Fits, Has, Only, Width, Without
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
            }.items()
        }),
        "single_blocks": (38, {
            "linear1": (WIDTH, 3 * WIDTH + MLP), "linear2": (WIDTH + MLP, WIDTH), "modulation.lin": (WIDTH, 3 * WIDTH),
        }),
    },
    {
        "img_in": (64, WIDTH), "txt_in": (4096, WIDTH),
        "time_in.in_layer": (256, WIDTH), "time_in.out_layer": (WIDTH, WIDTH),
        "vector_in.in_layer": (768, WIDTH), "vector_in.out_layer": (WIDTH, WIDTH),
        "guidance_in.in_layer": (256, WIDTH), "guidance_in.out_layer": (WIDTH, WIDTH),
        "final_layer.linear": (WIDTH, 64), "final_layer.adaLN_modulation.1": (WIDTH, 2 * WIDTH),
    },
)  # fmt: skip
DIFFUSERS = Naming(
    {
        "transformer_blocks": (19, {
            **{f"attn.{part}": (WIDTH, WIDTH) for part in (
                "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
            )},
            **{f"{ff}.net.0.proj": (WIDTH, MLP) for ff in ("ff", "ff_context")},
            **{f"{ff}.net.2": (MLP, WIDTH) for ff in ("ff", "ff_context")},
            **{f"{norm}.linear": (WIDTH, 6 * WIDTH) for norm in ("norm1", "norm1_context")},
        }),
        "single_transformer_blocks": (38, {
            **{f"attn.{part}": (WIDTH, WIDTH) for part in ("to_q", "to_k", "to_v")},
            "proj_mlp": (WIDTH, MLP), "proj_out": (WIDTH + MLP, WIDTH), "norm.linear": (WIDTH, 3 * WIDTH),
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
)  # fmt: skip
FLUX1 = Transformer("FLUX.1", (BFL, DIFFUSERS))
CONTROL = Transformer(
    "FLUX.1 with a control picture",
    (
        Naming(BFL.blocks, {**BFL.around, "img_in": (128, WIDTH)}),
        Naming(DIFFUSERS.blocks, {**DIFFUSERS.around, "x_embedder": (128, WIDTH)}),
    ),
)

_ENCODERS = Encoders(te1=768, te2=4096, te3=4096, text_encoder=768, text_encoder_2=4096)

SIGNATURES = (
    *(
        Signature(
            Kind.CHECKPOINT, "flux-1", "bfl",
            (
                Has("double_blocks.0.img_attn.qkv.weight"), Width("double_blocks.0.img_mlp.0.weight", WIDTH),
                Width("vector_in.in_layer.weight", 768), guidance("guidance_in.in_layer.weight"), Width("txt_in.weight", 4096),
                Blocks("double_blocks", 19), Blocks("single_blocks", 38),
                Only("double_blocks", "single_blocks", "img_in", "txt_in", "time_in", "vector_in", "guidance_in", "final_layer",
                     "scaled_fp8"),
            ),
            ROOTS, ChannelVariants("img_in.weight", {64: normal, 384: "fill", 128: "control"}), prediction_type="flow",
        )
        for guidance, normal in ((Has, "dev"), (Without, "schnell"))
    ),
    *(
        Signature(
            Kind.CHECKPOINT, "flux-1", "diffusers",
            (
                Has("single_transformer_blocks.0.proj_mlp.weight"), Width("transformer_blocks.0.attn.add_q_proj.weight", WIDTH),
                Width("time_text_embed.text_embedder.linear_1.weight", 768),
                guidance("time_text_embed.guidance_embedder.linear_1.weight"),
                Width("context_embedder.weight", 4096),
                Blocks("transformer_blocks", 19), Blocks("single_transformer_blocks", 38),
                Only("transformer_blocks", "single_transformer_blocks", "x_embedder", "context_embedder", "time_text_embed", "norm_out",
                     "proj_out"),
            ),
            ROOTS, ChannelVariants("x_embedder.weight", {64: normal, 384: "fill", 128: "control"}), prediction_type="flow",
        )
        for guidance, normal in ((Has, "dev"), (Without, "schnell"))
    ),
    Signature(Kind.LORA, "flux-1", None, (AdapterOf(), Fits(FLUX1), _ENCODERS, Claimed("chroma", wanted=False))),
    Signature(
        Kind.LORA, "flux-1", None, (AdapterOf(), AdapterWidth("img_in", 128), Fits(CONTROL)), variant="control",
    ),
    Signature(
        Kind.LORA, "flux-1", None, (AdapterOf(), AdapterWidth("x_embedder", 128), Fits(CONTROL)), variant="control",
    ),
    Signature(Kind.LORA, "flux-1", None, (AdapterOf(TEXT), _ENCODERS)),
)  # fmt: skip
