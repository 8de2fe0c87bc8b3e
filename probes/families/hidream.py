"""HiDream-I1: 16 double and 32 single blocks of 2560 values with experts; text from CLIP, T5 and Llama."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.transformer import Layers, Naming, Transformer, checkpoint, each, lora, square
from probes.rules import Blocks, Has, Width

WIDTH, MLP, SHARED = 2560, 6912, 3584


def _feed(name: str, mlp: int) -> Layers:
    return {**each((WIDTH, mlp), f"{name}.w1", f"{name}.w3"), f"{name}.w2": (mlp, WIDTH)}


_ATTENTION = ("to_q", "to_k", "to_v", "to_out")
_SINGLE = {
    "adaLN_modulation.1": (WIDTH, 6 * WIDTH),
    **square(WIDTH, *(f"attn1.{part}" for part in _ATTENTION)),
    **_feed("ff_i.shared_experts", SHARED),
    "ff_i.gate": (WIDTH, 4),
    **{path: widths for expert in range(4) for path, widths in _feed(f"ff_i.experts.{expert}", MLP).items()},
}
_DOUBLE = {
    **_SINGLE,
    "adaLN_modulation.1": (WIDTH, 12 * WIDTH),
    **square(WIDTH, *(f"attn1.{part}_t" for part in _ATTENTION)),
    **_feed("ff_t", MLP),
}
NAMING = Naming(
    {
        "double_stream_blocks": (16, {f"block.{path}": widths for path, widths in _DOUBLE.items()}),
        "single_stream_blocks": (32, {f"block.{path}": widths for path, widths in _SINGLE.items()}),
        "caption_projection": (49, {"linear": (4096, WIDTH)}),
    },
    {
        "t_embedder.timestep_embedder.linear_1": (256, WIDTH), "t_embedder.timestep_embedder.linear_2": (WIDTH, WIDTH),
        "p_embedder.pooled_embedder.linear_1": (2048, WIDTH), "p_embedder.pooled_embedder.linear_2": (WIDTH, WIDTH),
        "x_embedder.proj": (64, WIDTH), "final_layer.linear": (WIDTH, 64), "final_layer.adaLN_modulation.1": (WIDTH, 2 * WIDTH),
    },
    beside="q_rms_norm q_rms_norm_t k_rms_norm k_rms_norm_t",
)  # fmt: skip

_ENCODERS = Encoders(
    te1=768, te2=1280, te3=4096, te4=4096, te=4096, text_encoder=768, text_encoder_2=1280, text_encoder_3=4096, text_encoder_4=4096
)  # fmt: skip

SIGNATURES = (
    checkpoint(
        "hidream", "diffusers", NAMING,
        Has("double_stream_blocks.0.block.attn1.to_q_t.weight"), Width("double_stream_blocks.0.block.attn1.to_q.weight", WIDTH),
        Width("caption_projection.0.linear.weight", 4096), Blocks("double_stream_blocks", 16), Blocks("single_stream_blocks", 32),
    ),
    lora("hidream", Transformer("HiDream-I1", (NAMING,)), _ENCODERS),
)  # fmt: skip
