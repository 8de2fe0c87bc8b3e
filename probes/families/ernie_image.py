"""ERNIE-Image: 36 single-stream blocks of 4096 values, all told the time by one modulation, over Ministral text (3072)."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Naming, Transformer, attention, checkpoint, each, lora, square
from probes.rules import Blocks, Has, Width

WIDTH, MLP, TEXT = 4096, 12288, 3072

NAMING = Naming(
    {
        "layers": (
            36,
            {
                **square(WIDTH, *attention("self_attention")), **each((WIDTH, MLP), "mlp.gate_proj", "mlp.up_proj"),
                "mlp.linear_fc2": (MLP, WIDTH),
            },
        )
    },
    {
        "x_embedder.proj": (128, WIDTH), "text_proj": (TEXT, WIDTH), **square(WIDTH, "time_embedding.linear_1", "time_embedding.linear_2"),
        "adaLN_modulation.1": (WIDTH, 6 * WIDTH), "final_norm.linear": (WIDTH, 2 * WIDTH), "final_linear": (WIDTH, 128),
    },
    "adaLN_sa_ln adaLN_mlp_ln norm_q norm_k",
)  # fmt: skip

SIGNATURES = (
    checkpoint(
        "ernie-image", "diffusers", NAMING,
        Has("layers.0.adaLN_sa_ln.weight"), Width("text_proj.weight", TEXT), Width("layers.0.self_attention.to_q.weight", WIDTH),
        Blocks("layers", 36),
    ),
    lora("ernie-image", Transformer("ERNIE-Image", (NAMING,)), Encoders()),
)  # fmt: skip
