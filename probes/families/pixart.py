"""PixArt: 28 blocks of 1152 values over T5 text. Alpha embeds the resolution, Sigma does not; their LoRAs are alike."""

from __future__ import annotations

from dataclasses import replace

from probes.families.transformer import Naming, Transformer, checkpoint, square
from probes.report import Kind
from probes.rules import AdapterOf, Blocks, Encoders, Fits, Has, Width, Without
from probes.signature import Signature

WIDTH, MLP = 1152, 4608
PIXART = Transformer(
    "PixArt",
    (
        Naming(
            {
                "transformer_blocks": (
                    28,
                    {
                        **square(
                            WIDTH,
                            *(f"{a}.{p}" for a in ("attn1", "attn2") for p in ("to_q", "to_k", "to_v", "to_out.0")),
                        ),
                        "ff.net.0.proj": (WIDTH, MLP),
                        "ff.net.2": (MLP, WIDTH),
                    },
                )
            },
            {
                "proj_out": (WIDTH, 32),
                "adaln_single.linear": (WIDTH, 6 * WIDTH),
                "caption_projection.linear_1": (4096, WIDTH),
                "caption_projection.linear_2": (WIDTH, WIDTH),
            },
        ),
    ),
)
_RESOLUTION = "adaln_single.emb.resolution_embedder.linear_1.weight"

SIGNATURES = tuple(
    signature
    for family, resolution in (("pixart-alpha", Has), ("pixart-sigma", Without))
    for signature in (
        replace(
            checkpoint(
                family,
                "diffusers",
                Has("adaln_single.linear.weight"),
                Width("pos_embed.proj.weight", 4),
                Width("transformer_blocks.0.attn1.to_q.weight", WIDTH),
                Blocks("transformer_blocks", 28),
                resolution(_RESOLUTION),
            ),
            prediction_type="epsilon",
        ),
        Signature(Kind.LORA, family, None, (AdapterOf(), Fits(PIXART), Encoders(text_encoder=4096))),
    )
)
