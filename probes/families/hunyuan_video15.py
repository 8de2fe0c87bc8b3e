"""Hunyuan Video 1.5: 54 double blocks of 2048 values over Qwen2.5-VL (3584), and no single ones."""

from __future__ import annotations

from probes.adapter_rules import Encoders
from probes.families.hunyuan_video import as_flux
from probes.families.transformer import JOINT, Naming, Transformer, attention, checkpoint, each, lora, square
from probes.rules import Blocks, Has, Width

WIDTH, MLP = 2048, 8192
_BLOCK = {
    f"{stream}_{path}": widths
    for stream in ("img", "txt")
    for path, widths in {
        "mod.linear": (WIDTH, 6 * WIDTH), "attn_qkv": (WIDTH, 3 * WIDTH), "attn_proj": (WIDTH, WIDTH),
        "mlp.fc1": (WIDTH, MLP), "mlp.fc2": (MLP, WIDTH), **square(WIDTH, "attn_q", "attn_k", "attn_v"),
    }.items()
}  # fmt: skip
_REFINER = {
    "self_attn_qkv": (WIDTH, 3 * WIDTH), "self_attn_proj": (WIDTH, WIDTH), "mlp.fc1": (WIDTH, MLP), "mlp.fc2": (MLP, WIDTH),
    "adaLN_modulation.1": (WIDTH, 2 * WIDTH),
}  # fmt: skip
_AROUND = {
    **each((3584, WIDTH), "txt_in.input_embedder", "txt_in.c_embedder.linear_1"), "txt_in.c_embedder.linear_2": (WIDTH, WIDTH),
    **{f"{embedder}.mlp.{n}": ((256 if n == 0 else WIDTH), WIDTH) for embedder in ("txt_in.t_embedder", "time_in") for n in (0, 2)},
    "byt5_in.fc1": (1472, WIDTH), **square(WIDTH, "byt5_in.fc2", "byt5_in.fc3"), "cond_type_embedding": (WIDTH, 3),
    "vision_in.proj.1": (1152, 1152), "vision_in.proj.3": (1152, WIDTH),
    "img_in.proj": (65, WIDTH), "final_layer.linear": (WIDTH, 32), "final_layer.adaLN_modulation.1": (WIDTH, 2 * WIDTH),
}  # fmt: skip
ORIGINAL = Naming(
    {"double_blocks": (54, _BLOCK), "txt_in.individual_token_refiner.blocks": (2, _REFINER)},
    _AROUND,
    beside="img_attn_q_norm img_attn_k_norm txt_attn_q_norm txt_attn_k_norm norm1 norm2 layernorm",
)
COMFY = Naming(
    {prefix: (count, as_flux(block)) for prefix, (count, block) in ORIGINAL.blocks.items()}, as_flux(_AROUND)
)
DIFFUSERS = Naming(
    {
        "transformer_blocks": (54, {
            **each((WIDTH, 6 * WIDTH), "norm1.linear", "norm1_context.linear"), **square(WIDTH, *attention("attn", *JOINT)),
            **each((WIDTH, MLP), "ff.net.0.proj", "ff_context.net.0.proj"), **each((MLP, WIDTH), "ff.net.2", "ff_context.net.2"),
        }),
        "context_embedder.token_refiner.refiner_blocks": (2, {
            **square(WIDTH, *attention("attn")), "ff.net.0.proj": (WIDTH, MLP), "ff.net.2": (MLP, WIDTH),
            "norm_out.linear": (WIDTH, 2 * WIDTH),
        }),
    },
    {},
)  # fmt: skip

SIGNATURES = (
    checkpoint(
        "hunyuan-video-1.5", "original", ORIGINAL,
        Has("byt5_in.fc1.weight"), Width("txt_in.input_embedder.weight", 3584), Width("double_blocks.0.img_attn_q.weight", WIDTH),
        Width("img_in.proj.weight", 65), Blocks("double_blocks", 54),
    ),  # as Tencent publishes it, attention unfused; ComfyUI's and diffusers' names are in checkpoints.py
    lora("hunyuan-video-1.5", Transformer("Hunyuan Video 1.5", (ORIGINAL, COMFY, DIFFUSERS)), Encoders()),
)  # fmt: skip
