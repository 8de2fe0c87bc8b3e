"""LoRAs of HunyuanImage 2.1: 20 double and 40 single blocks of 3584 values over Qwen2.5-VL (3584), and glyphs by ByT5 (1472). Its
checkpoints are in checkpoints.py."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.hunyuan_video import as_flux, diffusers_blocks, original_blocks
from probes.families.transformer import Naming, Transformer, lora, square

WIDTH, MLP, GLYPHS = 3584, 14336, 2048

ORIGINAL = Naming(
    original_blocks(WIDTH, MLP),
    {
        **square(WIDTH, "txt_in.input_embedder", "txt_in.c_embedder.linear_1", "txt_in.c_embedder.linear_2"),
        **{
            f"{embedder}.mlp.{n}": ((256 if n == 0 else WIDTH), WIDTH)
            for embedder in ("txt_in.t_embedder", "time_in", "guidance_in") for n in (0, 2)
        },
        "byt5_in.fc1": (1472, GLYPHS), "byt5_in.fc2": (GLYPHS, GLYPHS), "byt5_in.fc3": (GLYPHS, WIDTH),
        "img_in.proj": (64, WIDTH), "final_layer.linear": (WIDTH, 64), "final_layer.adaLN_modulation.1": (WIDTH, 2 * WIDTH),
    },
)  # fmt: skip
COMFY = Naming(
    {prefix: (count, as_flux(block)) for prefix, (count, block) in ORIGINAL.blocks.items()}, as_flux(ORIGINAL.around)
)
DIFFUSERS = Naming(
    diffusers_blocks(WIDTH, MLP),
    {
        **{
            f"{embedder}.linear_{n}": ((inner if n == 1 else WIDTH), WIDTH)
            for embedder, inner in (
                ("context_embedder.time_text_embed.timestep_embedder", 256), ("context_embedder.time_text_embed.text_embedder", WIDTH),
                ("time_guidance_embed.timestep_embedder", 256), ("time_guidance_embed.timestep_embedder_r", 256),
                ("time_guidance_embed.guidance_embedder", 256),
            )
            for n in (1, 2)
        },
        "context_embedder.proj_in": (WIDTH, WIDTH), "x_embedder.proj": (64, WIDTH),
        "context_embedder_2.linear_1": (1472, GLYPHS), "context_embedder_2.linear_2": (GLYPHS, GLYPHS),
        "context_embedder_2.linear_3": (GLYPHS, WIDTH),
        "norm_out.linear": (WIDTH, 2 * WIDTH), "proj_out": (WIDTH, 64),
    },
)  # fmt: skip

SIGNATURES = (lora("hunyuan-image", Transformer("HunyuanImage 2.1", (ORIGINAL, COMFY, DIFFUSERS)), Encoders()),)
