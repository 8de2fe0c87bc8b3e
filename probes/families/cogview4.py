"""CogView4: 28 blocks of 4096 values in which picture and GLM-4 text (4096) attend to each other through one attention."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Layers, Naming, Transformer, attention, checkpoint, lora, square
from probes.rules import Blocks, Has, Width

WIDTH, TIME = 4096, 512


def naming(count: int, condition: int, time: int, around: Layers) -> Naming:
    """GLM-Image has the same blocks. `condition`: width of the size embedding; `time`: of the time's."""
    blocks = {
        "transformer_blocks": (count, {
            "norm1.linear": (TIME, 12 * WIDTH), **square(WIDTH, *attention("attn1")),
            "ff.net.0.proj": (WIDTH, 4 * WIDTH), "ff.net.2": (4 * WIDTH, WIDTH),
        }),
    }  # fmt: skip
    embedders = {
        f"time_condition_embed.{part}.linear_{n}": (inner if n == 1 else TIME, TIME)
        for part, inner in (("timestep_embedder", time), ("condition_embedder", condition))
        for n in (1, 2)
    }
    return Naming(
        blocks, {"norm_out.linear": (TIME, 2 * WIDTH), "proj_out": (WIDTH, 64), **embedders, **around}, "norm_q norm_k"
    )


NAMING = naming(28, 1536, WIDTH, {"patch_embed.proj": (64, WIDTH), "patch_embed.text_proj": (4096, WIDTH)})

SIGNATURES = (
    checkpoint(
        "cogview4", "diffusers", NAMING,
        Has("patch_embed.text_proj.weight"), Width("transformer_blocks.0.attn1.to_q.weight", WIDTH),
        Width("time_condition_embed.condition_embedder.linear_1.weight", 1536), Blocks("transformer_blocks", 28),
    ),
    lora("cogview4", Transformer("CogView4", (NAMING,)), Encoders()),
)  # fmt: skip
