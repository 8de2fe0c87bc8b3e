"""Lumina-Image 2: blocks of 2304 values with grouped keys, text from Gemma 2 (2304)."""

from __future__ import annotations

from probes.adapter_names import TEXT
from probes.adapter_rules import AdapterOf, EncoderLayers, Encoders
from probes.families.transformer import Layers, Naming, Transformer, checkpoint, each, lora
from probes.report import Kind
from probes.rules import Blocks, Has, Width
from probes.signature import Signature

WIDTH, KEYS, MLP = 2304, 768, 9216
_DEPTH = (Blocks("layers", 26), Blocks("noise_refiner", 2), Blocks("context_refiner", 2))


def _naming(attention: Layers, feed: tuple[str, str, str], modulation: str, around: Layers, beside: str) -> Naming:
    plain = {**attention, **each((WIDTH, MLP), feed[0], feed[2]), feed[1]: (MLP, WIDTH)}
    modulated = {**plain, modulation: (1024, 4 * WIDTH)}
    blocks = {"layers": (26, modulated), "noise_refiner": (2, modulated), "context_refiner": (2, plain)}
    return Naming(blocks, {"x_embedder": (64, WIDTH), **around}, beside)


ORIGINAL = _naming(
    {"attention.qkv": (WIDTH, WIDTH + 2 * KEYS), "attention.out": (WIDTH, WIDTH)},
    ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3"),
    "adaLN_modulation.1",
    {
        "t_embedder.mlp.0": (256, 1024), "t_embedder.mlp.2": (1024, 1024), "cap_embedder.1": (WIDTH, WIDTH),
        "final_layer.linear": (WIDTH, 64), "final_layer.adaLN_modulation.1": (1024, WIDTH),
    },
    beside="cap_embedder.0 attention_norm1 ffn_norm1 k_norm q_norm norm_final".replace(".", " "),
)  # fmt: skip
DIFFUSERS = _naming(
    {**each((WIDTH, WIDTH), "attn.to_q", "attn.to_out.0"), **each((WIDTH, KEYS), "attn.to_k", "attn.to_v")},
    ("feed_forward.linear_1", "feed_forward.linear_2", "feed_forward.linear_3"),
    "norm1.linear",
    {
        "time_caption_embed.timestep_embedder.linear_1": (256, 1024), "time_caption_embed.timestep_embedder.linear_2": (1024, 1024),
        "time_caption_embed.caption_embedder.1": (WIDTH, WIDTH), "norm_out.linear_1": (1024, WIDTH), "norm_out.linear_2": (WIDTH, 64),
    },
    beside="norm ffn_norm1 norm_q norm_k",
)  # fmt: skip

_ENCODERS = Encoders(te=WIDTH, text_encoder=WIDTH)

SIGNATURES = (
    checkpoint(
        "lumina-2", "original", ORIGINAL,
        Has("layers.0.attention.qkv.weight"), Width("cap_embedder.1.weight", WIDTH), *_DEPTH,
    ),
    checkpoint(
        "lumina-2", "diffusers", DIFFUSERS,
        Has("time_caption_embed.caption_embedder.1.weight"), Width("layers.0.attn.to_q.weight", WIDTH), Width("x_embedder.weight", 64),
        *_DEPTH,
    ),
    lora("lumina-2", Transformer("Lumina-Image 2", (ORIGINAL, DIFFUSERS)), _ENCODERS),
    Signature(Kind.LORA, "lumina-2", None, (AdapterOf(TEXT), EncoderLayers(26), _ENCODERS)),
)  # fmt: skip
