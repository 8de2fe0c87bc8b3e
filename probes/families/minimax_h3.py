"""MiniMax H3, video with sound: 50 blocks of 5376 values over text of 5120, which two blocks of their own refine."""

from __future__ import annotations

from collections.abc import Mapping

from probes.adapter_rules import Encoders
from probes.families.transformer import Layers, Naming, Transformer, checkpoint, each, lora
from probes.rules import Blocks, Has, Width

WIDTH, HEADS, MLP, TEXT = 5376, 7168, 14336, 5120


def _naming(
    blocks: str,
    refiner: str,
    attention: Layers,
    mlp: tuple[str, str],
    around: Mapping[str, str],
    beside: str,
    time: int = 2688,
) -> Naming:
    """`time`: how many values the modulations are made from."""
    plain = {**attention, mlp[0]: (WIDTH, 2 * MLP), mlp[1]: (MLP, WIDTH)}
    widths = {
        "video": (96, WIDTH), "sound": (32, WIDTH), "text": (TEXT, WIDTH), "time.0": (256, WIDTH), "time.1": (WIDTH, time),
        "modulation": (time, 2 * WIDTH), "video out": (WIDTH, 96), "sound out": (WIDTH, 32),
    }  # fmt: skip
    return Naming(
        {blocks: (50, {**plain, "adaln_proj.linear": (time, 18 * WIDTH)}), refiner: (2, plain)},
        {around[part]: pair for part, pair in widths.items()},
        f"rope inv_freq norm norm1 norm2 final_norm {beside}",
    )


def _original(time: int) -> Naming:
    return _naming(
        "blocks", "token_refiner.blocks",
        {"attn.qkv_proj": (WIDTH, 3 * HEADS), "attn.out_proj": (HEADS, WIDTH)}, ("mlp.fc1", "mlp.fc2"),
        {
            "video": "video_patch_proj", "sound": "audio_patch_proj", "text": "condition_proj", "time.0": "time_embedder.proj_in",
            "time.1": "time_embedder.proj_out", "modulation": "final_layer.adaln_proj.linear", "video out": "final_layer.video_out",
            "sound out": "final_layer.audio_out",
        },
        "q_norm k_norm adaln_t_table", time,
    )  # fmt: skip


FULL, PRUNED = _original(2688), _original(8)
"""As MiniMax published it, and as ComfyUI repacked it: with a table in place of what makes the modulations."""
DIFFUSERS = _naming(
    "transformer_blocks", "token_refiner.refiner_blocks",
    {**each((WIDTH, HEADS), "attn.to_q", "attn.to_k", "attn.to_v"), "attn.to_out.0": (HEADS, WIDTH)}, ("ff.net.0.proj", "ff.net.2"),
    {
        "video": "proj_in", "sound": "audio_proj_in", "text": "context_embedder", "time.0": "time_embedder.linear_1",
        "time.1": "time_embedder.linear_2", "modulation": "norm_out.linear", "video out": "proj_out", "sound out": "audio_proj_out",
    },
    "norm_q norm_k",
)  # fmt: skip
_ORIGINAL_KEYS = ("condition_proj.weight", "audio_patch_proj.weight", "blocks", "attn.qkv_proj")

SIGNATURES = (
    *(
        checkpoint(
            "minimax-h3", layout, naming,
            Has(first), Width(text, TEXT), Width(f"{blocks}.0.{attention}.weight", WIDTH), Width(sound, 32), Blocks(blocks, 50),
        )
        for layout, naming, first, text, sound, blocks, attention in (
            ("original", FULL, "time_embedder.proj_out.weight", *_ORIGINAL_KEYS),
            ("original", PRUNED, "adaln_t_table", *_ORIGINAL_KEYS),
            ("diffusers", DIFFUSERS, "audio_proj_out.weight", "context_embedder.weight", "audio_proj_in.weight", "transformer_blocks",
             "attn.to_q"),
        )
    ),
    lora("minimax-h3", Transformer("MiniMax H3", (FULL, PRUNED, DIFFUSERS)), Encoders()),
)  # fmt: skip
