"""PixArt: 28 blocks of 1152 values over T5 text. Alpha of 1024 pixels embeds the resolution, Sigma does not; their LoRAs are alike.

Alpha of 512 pixels and less has Sigma's tensors: only the longest text tells them apart, 120 tokens or 300, where it is
saved, and words.
"""

from __future__ import annotations

from dataclasses import replace

from probes.adapter_rules import Encoders
from probes.families.transformer import Naming, Transformer, attention, checkpoint, each, lora, square
from probes.rules import Blocks, Claimed, Either, Has, Rule, Width, Without
from probes.signature import Signature

WIDTH, MLP, SMALL = 1152, 4608, 384

_BLOCKS = {
    "transformer_blocks": (28, {
        **square(WIDTH, *attention("attn1"), *attention("attn2")), "ff.net.0.proj": (WIDTH, MLP), "ff.net.2": (MLP, WIDTH),
    }),
}  # fmt: skip
_AROUND = {
    "pos_embed.proj": (4, WIDTH), "proj_out": (WIDTH, 32), "adaln_single.linear": (WIDTH, 6 * WIDTH),
    "adaln_single.emb.timestep_embedder.linear_1": (256, WIDTH), "adaln_single.emb.timestep_embedder.linear_2": (WIDTH, WIDTH),
    "caption_projection.linear_1": (4096, WIDTH), "caption_projection.linear_2": (WIDTH, WIDTH),
}  # fmt: skip
_EMBEDDERS = ("adaln_single.emb.resolution_embedder", "adaln_single.emb.aspect_ratio_embedder")
_RESOLUTION = {
    **each((256, SMALL), *(f"{embedder}.linear_1" for embedder in _EMBEDDERS)),
    **square(SMALL, *(f"{embedder}.linear_2" for embedder in _EMBEDDERS)),
}
SIGMA = Naming(_BLOCKS, _AROUND, beside="scale_shift_table pos_embed y_embedding")
ALPHA = Naming(_BLOCKS, _AROUND | _RESOLUTION, SIGMA.beside)

ORIGINAL = Naming(
    {
        "blocks": (28, {
            "attn.qkv": (WIDTH, 3 * WIDTH), **square(WIDTH, "attn.proj", "cross_attn.q_linear", "cross_attn.proj"),
            "cross_attn.kv_linear": (WIDTH, 2 * WIDTH), "mlp.fc1": (WIDTH, MLP), "mlp.fc2": (MLP, WIDTH),
        }),
    },
    {
        "x_embedder.proj": (4, WIDTH), "t_block.1": (WIDTH, 6 * WIDTH), "final_layer.linear": (WIDTH, 32),
        "t_embedder.mlp.0": (256, WIDTH), "t_embedder.mlp.2": (WIDTH, WIDTH),
        "y_embedder.y_proj.fc1": (4096, WIDTH), "y_embedder.y_proj.fc2": (WIDTH, WIDTH),
        **{f"{name}.mlp.{n}": (256 if n == 0 else SMALL, SMALL) for name in ("csize_embedder", "ar_embedder") for n in (0, 2)},
    },
    beside="scale_shift_table pos_embed y_embedding",
)  # fmt: skip
_UNSIZED = replace(
    ORIGINAL, around={path: widths for path, widths in ORIGINAL.around.items() if not path.startswith(("csize", "ar_"))}
)

_LAYOUTS = (
    (
        "diffusers", SIGMA, f"{_EMBEDDERS[0]}.linear_1.weight", "caption_projection.y_embedding",
        (
            Has("adaln_single.linear.weight"), Width("pos_embed.proj.weight", 4), Width("transformer_blocks.0.attn1.to_q.weight", WIDTH),
            Width("caption_projection.linear_1.weight", 4096), Blocks("transformer_blocks", 28),
        ),
    ),
    (
        "original", ORIGINAL, "csize_embedder.mlp.0.weight", "y_embedder.y_embedding",
        (
            Has("t_block.1.weight"), Width("x_embedder.proj.weight", 4), Width("blocks.0.attn.qkv.weight", WIDTH),
            Width("y_embedder.y_proj.fc1.weight", 4096), Blocks("blocks", 28),
        ),
    ),
)  # fmt: skip
"""Layout, its naming (without the resolution), the resolution's first layer, the longest text's tokens, its rules."""


def _either(
    layout: str, naming: Naming, resolution: str, tokens: str, rules: tuple[Rule, ...]
) -> tuple[Signature, ...]:
    plain = (*rules, Without(resolution))
    said = Claimed("pixart-alpha", "pixart-sigma")
    full = ALPHA if layout == "diffusers" else naming
    return (
        checkpoint("pixart-alpha", layout, full, *rules, Has(resolution), prediction_type="epsilon"),
        checkpoint("pixart-alpha", layout, naming, *plain, Width(tokens, 120, axis=0), prediction_type="epsilon"),
        checkpoint("pixart-alpha", layout, naming, *plain, Without(tokens), said, prediction_type="epsilon"),
        checkpoint(
            "pixart-sigma",
            layout,
            naming,
            *plain,
            Either(Width(tokens, 300, axis=0), Without(tokens)),
            prediction_type="epsilon",
        ),
    )


SIGNATURES = (
    *(signature for layout in _LAYOUTS for signature in _either(*layout)),
    *(
        lora(
            family, Transformer("PixArt", (naming, original)), Encoders(te=4096, te1=4096, te3=4096, text_encoder=4096)
        )
        for family, naming, original in (("pixart-alpha", ALPHA, ORIGINAL), ("pixart-sigma", SIGMA, _UNSIZED))
    ),
)
