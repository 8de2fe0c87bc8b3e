"""LoRAs of OmniGen2: 32 blocks of 2520 values over Qwen2.5-VL text (2048), and refiners of text, noise and given pictures. Its
checkpoints are in checkpoints.py."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Naming, Transformer, each, lora, square

WIDTH, KEYS, MLP, TIME, TEXT = 2520, 840, 10240, 1024, 2048

_PLAIN = {
    **square(WIDTH, "attn.to_q", "attn.to_out.0"), **each((WIDTH, KEYS), "attn.to_k", "attn.to_v"),
    **each((WIDTH, MLP), "feed_forward.linear_1", "feed_forward.linear_3"), "feed_forward.linear_2": (MLP, WIDTH),
}  # fmt: skip
_MODULATED = {**_PLAIN, "norm1.linear": (TIME, 4 * WIDTH)}
NAMING = Naming(
    {
        "layers": (32, _MODULATED), "noise_refiner": (2, _MODULATED), "ref_image_refiner": (2, _MODULATED),
        "context_refiner": (2, _PLAIN),
    },
    {
        **each((64, WIDTH), "x_embedder", "ref_image_patch_embedder"), "time_caption_embed.caption_embedder.1": (TEXT, WIDTH),
        "time_caption_embed.timestep_embedder.linear_1": (256, TIME), "time_caption_embed.timestep_embedder.linear_2": (TIME, TIME),
        "norm_out.linear_1": (TIME, WIDTH), "norm_out.linear_2": (WIDTH, 64),
    },
)  # fmt: skip

SIGNATURES = (lora("omnigen-2", Transformer("OmniGen2", (NAMING,)), Encoders()),)
