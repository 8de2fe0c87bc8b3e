"""Stable Diffusion 3 and 3.5: joint blocks over picture and text. The sizes differ in depth, width and
normalisation."""

from __future__ import annotations

from probes.adapter_names import TEXT
from probes.adapter_rules import AdapterOf, Encoders
from probes.families.transformer import Naming, Transformer, checkpoint, lora
from probes.report import Kind
from probes.rules import Blocks, Has, Width, Without
from probes.signature import Signature


def _original(count: int, width: int, dual: int) -> Naming:
    """Stability's names. `dual`: the first blocks that have a second self-attention (3.5 medium)."""
    streams = {
        f"{stream}.{path}": widths
        for stream in ("x_block", "context_block")
        for path, widths in {
            "attn.qkv": (width, 3 * width), "attn.proj": (width, width), "mlp.fc1": (width, 4 * width), "mlp.fc2": (4 * width, width),
            "adaLN_modulation.1": (width, 6 * width),
        }.items()
    }  # fmt: skip
    around = {
        "x_embedder.proj": (16, width), "context_embedder": (4096, width), "final_layer.linear": (width, 64),
        "final_layer.adaLN_modulation.1": (width, 2 * width),
        "t_embedder.mlp.0": (256, width), "t_embedder.mlp.2": (width, width),
        "y_embedder.mlp.0": (2048, width), "y_embedder.mlp.2": (width, width),
    }  # fmt: skip
    last = f"joint_blocks.{count - 1}"
    around[f"{last}.context_block.adaLN_modulation.1"] = (width, 2 * width)  # the last block drops its text stream
    around[f"{last}.context_block.attn.qkv"] = (width, 3 * width)
    for path in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1"):
        around[f"{last}.x_block.{path}"] = streams[f"x_block.{path}"]
    for index in range(dual):
        around[f"joint_blocks.{index}.x_block.attn2.qkv"] = (width, 3 * width)
        around[f"joint_blocks.{index}.x_block.attn2.proj"] = (width, width)
        around[f"joint_blocks.{index}.x_block.adaLN_modulation.1"] = (width, 9 * width)
    return Naming({"joint_blocks": (count - 1, streams)}, around, beside="pos_embed ln_q ln_k")


def _diffusers(count: int, width: int, dual: int) -> Naming:
    attention = {
        f"attn.{part}": (width, width)
        for part in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj")
    }
    feed = {"ff.net.0.proj": (width, 4 * width), "ff.net.2": (4 * width, width), "norm1.linear": (width, 6 * width)}
    context = {
        "attn.to_add_out": (width, width), "ff_context.net.0.proj": (width, 4 * width), "ff_context.net.2": (4 * width, width),
        "norm1_context.linear": (width, 6 * width),
    }  # fmt: skip
    around = {
        "pos_embed.proj": (16, width), "context_embedder": (4096, width), "proj_out": (width, 64), "norm_out.linear": (width, 2 * width),
        "time_text_embed.timestep_embedder.linear_1": (256, width), "time_text_embed.timestep_embedder.linear_2": (width, width),
        "time_text_embed.text_embedder.linear_1": (2048, width), "time_text_embed.text_embedder.linear_2": (width, width),
        f"transformer_blocks.{count - 1}.norm1_context.linear": (width, 2 * width),
    }  # fmt: skip
    around |= {f"transformer_blocks.{count - 1}.{path}": widths for path, widths in {**attention, **feed}.items()}
    for index in range(dual):
        around |= {
            f"transformer_blocks.{index}.attn2.{part}": (width, width) for part in ("to_q", "to_k", "to_v", "to_out.0")
        }
        around[f"transformer_blocks.{index}.norm1.linear"] = (width, 9 * width)
    plain = {**attention, **context, **feed}
    beside = "pos_embed norm_q norm_k norm_added_q norm_added_k"
    return Naming({"transformer_blocks": (count - 1, plain)}, around, beside)


def _transformer(name: str, count: int, width: int, dual: int = 0) -> Transformer:
    return Transformer(name, (_original(count, width, dual), _diffusers(count, width, dual)))


MEDIUM = _transformer("SD 3 medium", 24, 1536)
MEDIUM_35 = _transformer("SD 3.5 medium", 24, 1536, dual=13)
LARGE_35 = _transformer("SD 3.5 large", 38, 2432)

_ENCODERS = Encoders(te1=768, te2=1280, te3=4096, text_encoder=768, text_encoder_2=1280, text_encoder_3=4096)
_QK = "joint_blocks.0.x_block.attn.ln_k.weight"
_QK_DIFFUSERS = "transformer_blocks.0.attn.norm_k.weight"
_DUAL = "joint_blocks.0.x_block.attn2.qkv.weight"
_DUAL_DIFFUSERS = "transformer_blocks.0.attn2.to_q.weight"

SIGNATURES = (
    *(
        signature
        for variant, architecture, width, count, norms, dual in (
            ("medium", MEDIUM, 1536, 24, Without, Without),
            ("3.5-medium", MEDIUM_35, 1536, 24, Has, Has),
            ("3.5-large", LARGE_35, 2432, 38, Has, Without),
        )
        for original, diffusers in [architecture.tables]
        for signature in (
            checkpoint(
                "sd-3", "original", original,
                Has("joint_blocks.0.context_block.attn.qkv.weight"), Width("joint_blocks.0.x_block.attn.qkv.weight", width),
                Width("context_embedder.weight", 4096), Blocks("joint_blocks", count), norms(_QK), dual(_DUAL), variant=variant,
            ),
            checkpoint(
                "sd-3", "diffusers", diffusers,
                Has("transformer_blocks.0.attn.add_q_proj.weight"), Has("pos_embed.pos_embed"),
                Width("transformer_blocks.0.attn.to_q.weight", width), Width("context_embedder.weight", 4096),
                Blocks("transformer_blocks", count), norms(_QK_DIFFUSERS), dual(_DUAL_DIFFUSERS), variant=variant,
            ),
            lora("sd-3", architecture, _ENCODERS),
        )
    ),
    *(Signature(Kind.LORA, "sd-3", None, (AdapterOf(TEXT), encoders)) for encoders in (_ENCODERS, Encoders(text_encoder=1280))),
)  # fmt: skip
