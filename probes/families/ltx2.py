"""LTX-2: LTX Video's 48 blocks of 4096 values, and beside each one of 2048 values for sound; text from Gemma 3 (3840).

2.3 gates its attentions, modulates what they are told of the text, and takes that ready projected.
"""

from __future__ import annotations

from collections.abc import Mapping

from probes.adapter_rules import Encoders
from probes.families.transformer import Layers, Naming, Transformer, attention, checkpoint, each, lora, square
from probes.rules import Blocks, Has, Width, Without

WIDTH, SOUND, TEXT, HEADS = 4096, 2048, 3840, 32

_FROM_SOUND = {"audio_to_video_attn.to_q": (WIDTH, SOUND), "audio_to_video_attn.to_out.0": (SOUND, WIDTH)}
_FROM_VIDEO = each((WIDTH, SOUND), "video_to_audio_attn.to_k", "video_to_audio_attn.to_v")
_BLOCK = {
    **square(WIDTH, *attention("attn1"), *attention("attn2")), **square(SOUND, *attention("audio_attn1"), *attention("audio_attn2")),
    **square(SOUND, *attention("audio_to_video_attn"), *attention("video_to_audio_attn")), **_FROM_SOUND, **_FROM_VIDEO,
    "ff.net.0.proj": (WIDTH, 4 * WIDTH), "ff.net.2": (4 * WIDTH, WIDTH),
    "audio_ff.net.0.proj": (SOUND, 4 * SOUND), "audio_ff.net.2": (4 * SOUND, SOUND),
}  # fmt: skip
_GATED = {
    **_BLOCK,
    **each((WIDTH, HEADS), *(f"{name}.to_gate_logits" for name in ("attn1", "attn2", "audio_to_video_attn"))),
    **each((SOUND, HEADS), *(f"{name}.to_gate_logits" for name in ("audio_attn1", "audio_attn2", "video_to_audio_attn"))),
}  # fmt: skip
_DIFFUSERS = {
    "in": "proj_in", "modulation": "time_embed", "prompt": "prompt_adaln", "audio_in": "audio_proj_in",
    "audio_modulation": "audio_time_embed", "audio_prompt": "audio_prompt_adaln", "video_shift": "av_cross_attn_video_scale_shift",
    "audio_shift": "av_cross_attn_audio_scale_shift", "to_video": "av_cross_attn_video_a2v_gate",
    "to_audio": "av_cross_attn_audio_v2a_gate",
}  # fmt: skip
_ORIGINAL = {
    "in": "patchify_proj", "modulation": "adaln_single", "prompt": "prompt_adaln_single", "audio_in": "audio_patchify_proj",
    "audio_modulation": "audio_adaln_single", "audio_prompt": "audio_prompt_adaln_single",
    "video_shift": "av_ca_video_scale_shift_adaln_single", "audio_shift": "av_ca_audio_scale_shift_adaln_single",
    "to_video": "av_ca_a2v_gate_adaln_single", "to_audio": "av_ca_v2a_gate_adaln_single",
}  # fmt: skip


def _modulation(name: str, width: int, parts: int) -> Layers:
    embedder = "emb.timestep_embedder"
    layers = {
        "linear": (width, parts * width),
        f"{embedder}.linear_1": (256, width),
        f"{embedder}.linear_2": (width, width),
    }
    return {f"{name}.{path}": widths for path, widths in layers.items()}


def _naming(names: Mapping[str, str], gated: bool) -> Naming:
    parts = 9 if gated else 6
    around = {
        names["in"]: (128, WIDTH), "proj_out": (WIDTH, 128), names["audio_in"]: (128, SOUND), "audio_proj_out": (SOUND, 128),
        **_modulation(names["modulation"], WIDTH, parts), **_modulation(names["audio_modulation"], SOUND, parts),
        **_modulation(names["video_shift"], WIDTH, 4), **_modulation(names["audio_shift"], SOUND, 4),
        **_modulation(names["to_video"], WIDTH, 1), **_modulation(names["to_audio"], SOUND, 1),
    }  # fmt: skip
    captions = {
        f"{stream}caption_projection.linear_{n}": (TEXT if n == 1 else width, width)
        for stream, width in (("", WIDTH), ("audio_", SOUND))
        for n in (1, 2)
    }
    prompts = {**_modulation(names["prompt"], WIDTH, 2), **_modulation(names["audio_prompt"], SOUND, 2)}
    return Naming(
        {"transformer_blocks": (48, _GATED if gated else _BLOCK)},
        {**around, **(prompts if gated else captions)},
        _BESIDE,
    )


_BESIDE = """
    norm_q norm_k q_norm k_norm scale_shift_table audio_scale_shift_table prompt_scale_shift_table audio_prompt_scale_shift_table
    video_a2v_cross_attn_scale_shift_table audio_a2v_cross_attn_scale_shift_table scale_shift_table_a2v_ca_video
    scale_shift_table_a2v_ca_audio video_embeddings_connector audio_embeddings_connector transformer_1d_blocks learnable_registers
    to_gate_logits
"""  # and the text's connectors, which original files have beside the blocks
_BOTH_STREAMS = (
    Width("transformer_blocks.0.attn1.to_q.weight", WIDTH), Width("transformer_blocks.0.audio_attn1.to_q.weight", SOUND),
    Blocks("transformer_blocks", 48),
)  # fmt: skip
_GATE = "transformer_blocks.0.attn1.to_gate_logits.weight"

SIGNATURES = tuple(
    signature
    for variant, gated, gate in (("2.0", False, Without(_GATE)), ("2.3", True, Has(_GATE)))
    for original, diffusers in [(_naming(_ORIGINAL, gated), _naming(_DIFFUSERS, gated))]
    for signature in (
        checkpoint("ltx-2", "original", original, Has("audio_patchify_proj.weight"), *_BOTH_STREAMS, gate, variant=variant),
        checkpoint("ltx-2", "diffusers", diffusers, Has("audio_proj_in.weight"), *_BOTH_STREAMS, gate, variant=variant),
        lora("ltx-2", Transformer(f"LTX-{variant}", (original, diffusers)), Encoders()),
    )
)  # fmt: skip
