"""FLUX.3: five blocks of 3072 values for each of picture, shown picture and text, then 28 for all three, over text of 20480."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Naming, Transformer, attention, checkpoint, lora, square
from probes.rules import Blocks, Has, Width

WIDTH, MLP, TEXT = 3072, 9216, 20480
_MODES = ("image", "image_cond", "txt")
_BLOCK = {**square(WIDTH, *attention("attn")), "ff.linear_in": (WIDTH, 2 * MLP), "ff.linear_out": (MLP, WIDTH)}

NAMING = Naming(
    {
        "mode_blocks.image": (5, _BLOCK), "mode_blocks.image_cond": (5, _BLOCK), "txt_mode_blocks": (5, _BLOCK),
        "single_transformer_blocks": (28, _BLOCK),
    },
    {
        "timestep_embedder.linear_1": (256, WIDTH), "timestep_embedder.linear_2": (WIDTH, WIDTH),
        **{f"{part}_stream_modulations.{mode}.linear": (WIDTH, 3 * WIDTH) for part in ("early", "single") for mode in _MODES},
        **{f"x_embedders.{mode}": (128, WIDTH) for mode in _MODES[:2]}, "context_embedder": (TEXT, WIDTH),
        "norm_out.linear": (WIDTH, 2 * WIDTH), "proj_out": (WIDTH, 128),
    },
    "norm_q norm_k",
)  # fmt: skip

SIGNATURES = (
    checkpoint(
        "flux-3", "diffusers", NAMING,
        Has("early_stream_modulations.image.linear.weight"), Width("context_embedder.weight", TEXT),
        Width("mode_blocks.image.0.attn.to_q.weight", WIDTH), Blocks("txt_mode_blocks", 5), Blocks("single_transformer_blocks", 28),
    ),
    lora("flux-3", Transformer("FLUX.3", (NAMING,)), Encoders()),
)  # fmt: skip
