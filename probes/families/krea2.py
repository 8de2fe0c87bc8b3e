"""Krea 2: 28 single-stream blocks of 6144 values with gated attention, over twelve layers of Qwen3-VL text (2560) that blocks of their
own fuse."""

from __future__ import annotations

from collections.abc import Mapping

from probes.adapter_rules import Encoders
from probes.families.transformer import Layers, Naming, Transformer, checkpoint, each, lora, square
from probes.rules import Blocks, Has, Width

WIDTH, KEYS, MLP, TEXT, TEXT_MLP, LAYERS = 6144, 1536, 16384, 2560, 6912, 12


def _block(width: int, keys: int, mlp: int, names: Mapping[str, str]) -> Layers:
    widths = {
        **square(width, "q", "gate", "out"), **each((width, keys), "k", "v"),
        **each((width, mlp), "mlp.gate", "mlp.up"), "mlp.down": (mlp, width),
    }  # fmt: skip
    return {names[part]: pair for part, pair in widths.items()}


def _naming(blocks: str, fusion: str, names: Mapping[str, str], around: Mapping[str, str], beside: str) -> Naming:
    widths = {
        "first": (64, WIDTH), "last": (WIDTH, 64), "time.0": (256, WIDTH), "time.1": (WIDTH, WIDTH),
        "modulation": (WIDTH, 6 * WIDTH), "text.0": (TEXT, WIDTH), "text.1": (WIDTH, WIDTH),
    }  # fmt: skip
    text = (2, _block(TEXT, TEXT, TEXT_MLP, names))
    return Naming(
        {
            blocks: (28, _block(WIDTH, KEYS, MLP, names)),
            f"{fusion}.layerwise_blocks": text,
            f"{fusion}.refiner_blocks": text,
        },
        {**{around[part]: pair for part, pair in widths.items()}, f"{fusion}.projector": (LAYERS, 1)},
        beside,
    )


ORIGINAL = _naming(
    "blocks", "txtfusion",
    {
        "q": "attn.wq", "k": "attn.wk", "v": "attn.wv", "gate": "attn.gate", "out": "attn.wo",
        "mlp.gate": "mlp.gate", "mlp.up": "mlp.up", "mlp.down": "mlp.down",
    },
    {
        "first": "first", "last": "last.linear", "time.0": "tmlp.0", "time.1": "tmlp.2", "modulation": "tproj.1",
        "text.0": "txtmlp.1", "text.1": "txtmlp.3",
    },
    "mod lin prenorm postnorm scale qknorm qnorm knorm norm modulation",
)  # fmt: skip
DIFFUSERS = _naming(
    "transformer_blocks", "text_fusion",
    {
        "q": "attn.to_q", "k": "attn.to_k", "v": "attn.to_v", "gate": "attn.to_gate", "out": "attn.to_out.0",
        "mlp.gate": "ff.gate", "mlp.up": "ff.up", "mlp.down": "ff.down",
    },
    {
        "first": "img_in", "last": "final_layer.linear", "time.0": "time_embed.linear_1", "time.1": "time_embed.linear_2",
        "modulation": "time_mod_proj", "text.0": "txt_in.linear_1", "text.1": "txt_in.linear_2",
    },
    "scale_shift_table norm norm1 norm2 norm_q norm_k",
)  # fmt: skip

SIGNATURES = (
    checkpoint(
        "krea-2", "original", ORIGINAL,
        Has("txtfusion.projector.weight"), Width("txtmlp.1.weight", TEXT), Width("blocks.0.attn.wq.weight", WIDTH),
        Blocks("blocks", 28),
    ),
    checkpoint(
        "krea-2", "diffusers", DIFFUSERS,
        Has("text_fusion.projector.weight"), Width("txt_in.linear_1.weight", TEXT),
        Width("transformer_blocks.0.attn.to_q.weight", WIDTH), Blocks("transformer_blocks", 28),
    ),
    lora("krea-2", Transformer("Krea 2", (ORIGINAL, DIFFUSERS)), Encoders()),
)  # fmt: skip
