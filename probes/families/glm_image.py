"""GLM-Image: 30 of CogView4's blocks, told what a language model wrote before, and glyphs by ByT5 (1472)."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.cogview4 import TIME, WIDTH, naming
from probes.families.transformer import Naming, Transformer, checkpoint, lora
from probes.rules import Blocks, Has, Width

_PLAIN = naming(
    30, 1024, TIME,
    {
        "image_projector.proj": (64, WIDTH), "glyph_projector.net.0.proj": (1472, WIDTH), "glyph_projector.net.2": (WIDTH, WIDTH),
        "prior_projector.net.0.proj": (WIDTH, WIDTH), "prior_projector.net.2": (WIDTH, WIDTH),
    },
)  # fmt: skip
NAMING = Naming(_PLAIN.blocks, _PLAIN.around, f"{_PLAIN.beside} prior_token_embedding")

SIGNATURES = (
    checkpoint(
        "glm-image", "diffusers", NAMING,
        Has("prior_token_embedding.weight"), Width("transformer_blocks.0.attn1.to_q.weight", WIDTH),
        Width("glyph_projector.net.0.proj.weight", 1472), Blocks("transformer_blocks", 30),
    ),
    lora("glm-image", Transformer("GLM-Image", (NAMING,)), Encoders()),
)  # fmt: skip
