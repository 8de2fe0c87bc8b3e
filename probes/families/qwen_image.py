"""Qwen-Image: 60 joint blocks of 3072 values, text from Qwen2.5-VL (3584)."""

from __future__ import annotations

from probes.families.transformer import Naming, Transformer, checkpoint, square
from probes.report import Kind
from probes.rules import AdapterOf, Blocks, Covers, Encoders, Fits, Has, Only, Width
from probes.signature import Signature

WIDTH, MLP = 3072, 12288
QWEN = Transformer(
    "Qwen-Image",
    (
        Naming(
            {
                "transformer_blocks": (
                    60,
                    {
                        **square(
                            WIDTH,
                            *(
                                f"attn.{p}"
                                for p in (
                                    "to_q",
                                    "to_k",
                                    "to_v",
                                    "to_out.0",
                                    "add_q_proj",
                                    "add_k_proj",
                                    "add_v_proj",
                                    "to_add_out",
                                )
                            ),
                        ),
                        **{f"{stream}_mlp.net.0.proj": (WIDTH, MLP) for stream in ("img", "txt")},
                        **{f"{stream}_mlp.net.2": (MLP, WIDTH) for stream in ("img", "txt")},
                        **{f"{stream}_mod.1": (WIDTH, 6 * WIDTH) for stream in ("img", "txt")},
                    },
                )
            },
            {
                "img_in": (64, WIDTH),
                "txt_in": (3584, WIDTH),
                "proj_out": (WIDTH, 64),
                "norm_out.linear": (WIDTH, 2 * WIDTH),
                "time_text_embed.timestep_embedder.linear_1": (256, WIDTH),
                "time_text_embed.timestep_embedder.linear_2": (WIDTH, WIDTH),
            },
        ),
    ),
)

SIGNATURES = (
    checkpoint(
        "qwen-image",
        "diffusers",
        Has("transformer_blocks.0.img_mod.1.weight"),
        Width("txt_in.weight", 3584),
        Width("img_in.weight", 64),
        Blocks("transformer_blocks", 60),
        Only(
            "transformer_blocks",
            "img_in",
            "txt_in",
            "txt_norm",
            "time_text_embed",
            "norm_out",
            "proj_out",
            "scaled_fp8",
        ),
    ),
    # Blocks beyond FLUX.1's nineteenth tell it from a FLUX LoRA of attention alone.
    Signature(Kind.LORA, "qwen-image", None, (AdapterOf(), Fits(QWEN), Covers(QWEN), Encoders())),
)
