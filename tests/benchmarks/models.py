"""Checkpoints of true size with random weights, and adapters for them, written as files of the published layouts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from registry.backends.diffusers.families import KINDS
from registry.family_configs import FAMILY_CONFIGS
from registry.pipeline_config import Json, PipelineConfig

ATTENTION = r".*\.attn[12]\.to_(q|k|v|out\.0)\.weight"  # 128 modules of SD 1.5's UNet, 560 of SDXL's
LINEARS = r".*(\.attn[12]\.to_(q|k|v|out\.0)|ff\.net\.0\.proj|ff\.net\.2|proj_in|proj_out)\.weight"  # 722 of SDXL's
LCM = (  # the target modules of the published LCM-LoRAs: 278 and 788
    r".*(to_q|to_k|to_v|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2"
    r"|conv1|conv2|conv_shortcut|time_emb_proj|downsamplers\.0\.conv|upsamplers\.0\.conv)\.weight"
)
Shapes = Mapping[str, tuple[int, ...]]
_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_POOL = 2**24  # random values that every tensor is cut from; to draw them all would take a minute a gigabyte


def small(family: str) -> dict[str, Json]:
    """The family's components, as many as they are and of little width: to see that a benchmark runs."""
    text = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes: dict[str, dict[str, Any]] = {
        "unet": {"block_out_channels": [64, 64, 128, 128], "attention_head_dim": 4, "cross_attention_dim": 64},
        "vae": {"block_out_channels": [32, 32, 32, 32]},
        "text_encoder": {**text, "projection_dim": 64},
        "text_encoder_2": {**text, "projection_dim": 64},
    }
    if family == "sdxl":
        sizes["unet"] |= {
            "block_out_channels": [64, 64, 128],
            "transformer_layers_per_block": [1, 1, 2],
            "cross_attention_dim": 2 * 64,
            "projection_class_embeddings_input_dim": 6 * 256 + 64,
        }
    components = FAMILY_CONFIGS[family].components
    return {name: {**config, **sizes[name]} for name, config in components.items()}


def write_checkpoint(
    folder: Path, family: str, dtype: torch.dtype, components: Mapping[str, Json] | None = None
) -> PipelineConfig:
    """A diffusers folder's weights, random, of the family's published sizes or those of `components`; returns how to run it."""
    entry = FAMILY_CONFIGS[family]
    chosen = components or entry.components
    for name, make in KINDS[entry.pipeline].parts.items():
        with torch.device("meta"):
            module = make(chosen[name])
        stem = "model" if name.startswith("text_encoder") else "diffusion_pytorch_model"
        (folder / name).mkdir(parents=True)
        shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items() if "position_ids" not in key}
        _write(folder / name / f"{stem}.safetensors", shapes, dtype)
    return PipelineConfig(
        entry.pipeline, f"random {family}", chosen, entry.tokenizers, entry.scheduler, options=entry.options
    )


def unet_shapes(family: str, components: Mapping[str, Json] | None = None) -> Shapes:
    """Of the UNet's weights, by diffusers' names."""
    entry = FAMILY_CONFIGS[family]
    with torch.device("meta"):
        unet = KINDS[entry.pipeline].parts["unet"]((components or entry.components)["unet"])
    return {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}


def write_adapter(path: Path, shapes: Shapes, targets: str, rank: int) -> Path:
    """Random, in half precision and kohya's layout, which is that of the published LCM-LoRAs and of most files."""
    made: dict[str, Tensor] = {}
    for weight, (rows, columns, *kernel) in ((n, s) for n, s in shapes.items() if re.fullmatch(targets, n)):
        module = f"lora_unet_{weight.removesuffix('.weight').replace('.', '_')}"
        made[f"{module}.lora_down.weight"] = torch.randn(rank, columns, *kernel).mul_(0.01).half()
        made[f"{module}.lora_up.weight"] = torch.randn(rows, rank, *(1 for _ in kernel)).mul_(0.01).half()
        made[f"{module}.alpha"] = torch.tensor(8.0)
    save_file(made, path)
    return path


def _write(path: Path, shapes: Shapes, dtype: torch.dtype) -> None:
    """A safetensors file, one tensor after the other: 7 GB are never in memory at once."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + prod(shape) * dtype.itemsize
        header[name] = {"dtype": _DTYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in _values(shapes, dtype):
            file.write(tensor.view(torch.uint8).numpy().data)


def _values(shapes: Shapes, dtype: torch.dtype) -> Iterator[Tensor]:
    """Matrices with a standard deviation that keeps activations in size; norms are 1, biases 0."""
    pool = torch.randn(_POOL, generator=torch.Generator().manual_seed(0)).to(dtype)
    for name, shape in shapes.items():
        count = prod(shape)
        if len(shape) == 1:
            yield torch.full(shape, float(name.endswith("weight")), dtype=dtype)
            continue
        drawn = pool[:count] if count <= _POOL else pool.repeat(-(-count // _POOL))[:count]
        yield drawn * prod(shape[1:]) ** -0.5
