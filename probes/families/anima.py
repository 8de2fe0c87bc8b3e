"""CircleStone Labs' Anima: Cosmos Predict 2 of 2 billion weights, behind an adapter (1024) for the text of Qwen3 0.6B.

LoRAs that leave the adapter alone fit Cosmos as well.
"""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.cosmos import SIZES, TEXT, predict_2
from probes.families.transformer import Naming, Transformer, checkpoint, lora, square
from probes.rules import Blocks, Has, Width

_COUNT, _WIDTH = SIZES["2b"]
_PREDICT = predict_2(_COUNT, _WIDTH)
_ADAPTER = {
    **square(TEXT, *(f"{name}.{part}_proj" for name in ("self_attn", "cross_attn") for part in "qkvo")),
    "mlp.0": (TEXT, 4 * TEXT), "mlp.2": (4 * TEXT, TEXT),
}  # fmt: skip
ORIGINAL = Naming(
    {**_PREDICT.blocks, "llm_adapter.blocks": (6, _ADAPTER)},
    {**_PREDICT.around, "llm_adapter.out_proj": (TEXT, TEXT)},
    f"{_PREDICT.beside} embed norm norm_self_attn norm_cross_attn norm_mlp",
)

SIGNATURES = (
    checkpoint(
        "anima", "original", ORIGINAL,
        Has("llm_adapter.embed.weight"), Width("llm_adapter.blocks.0.self_attn.q_proj.weight", TEXT),
        Width("blocks.0.self_attn.q_proj.weight", _WIDTH), Blocks("blocks", _COUNT), Blocks("llm_adapter.blocks", 6),
    ),
    lora("anima", Transformer("Anima", (ORIGINAL,)), Encoders(te=TEXT, text_encoder=TEXT)),
)  # fmt: skip
