"""PixArt: 28 blocks of 1152 values over T5 text. Alpha embeds the resolution, Sigma does not; their LoRAs are alike."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Naming, Transformer, attention, checkpoint, each, lora, square
from probes.rules import Blocks, Has, Width, Without

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

SIGNATURES = tuple(
    signature
    for family, naming, resolution in (("pixart-alpha", ALPHA, Has), ("pixart-sigma", SIGMA, Without))
    for signature in (
        checkpoint(
            family, "diffusers", naming,
            Has("adaln_single.linear.weight"), Width("pos_embed.proj.weight", 4),
            Width("transformer_blocks.0.attn1.to_q.weight", WIDTH), Blocks("transformer_blocks", 28),
            resolution(f"{_EMBEDDERS[0]}.linear_1.weight"), prediction_type="epsilon",
        ),
        lora(family, Transformer("PixArt", (naming,)), Encoders(te=4096, te1=4096, te3=4096, text_encoder=4096)),
    )
)  # fmt: skip
