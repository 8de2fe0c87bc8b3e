"""LoRAs of whole models of the other families, in the names that their trainers write, are what diffusers fuses."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from registry.weights.adapters import Strength, load_factors
from registry.weights.bundle import load_bundle
from registry.weights.overlay import overlay
from registry.weights.work import work_on
from tests.registry.families import build
from tests.registry.tiny import ldm_name

CPU = torch.device("cpu")
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
TARGETS = (
    r"unet\..*(to_q|to_k|to_v|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2|conv1|conv2|time_emb_proj)\.weight"
    r"|text_encoder.*(q_proj|k_proj|v_proj|out_proj|fc1|fc2)\.weight"
)
KOHYA = {"sd-2": {"text_encoder": "lora_te"}, "sdxl": {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}}


def _module(family: str, layout: str, weight: str) -> str:
    component, _, name = weight.removesuffix(".weight").partition(".")
    if layout == "peft":
        return f"{component}.{name}"
    if layout == "kohya-ldm" and component == "unet":
        name = ldm_name(f"unet.{name}.").removeprefix("model.diffusion_model.").removesuffix(".")
    return f"{({'unet': 'lora_unet'} | KOHYA[family])[component]}_{name.replace('.', '_')}"


@pytest.mark.parametrize(
    ("family", "layout"), [("sd-2", "kohya"), ("sd-2", "peft"), ("sdxl", "kohya"), ("sdxl", "kohya-ldm"), ("sdxl", "peft")]
)  # fmt: skip
def test_it_is_what_diffusers_fuses(family: str, layout: str, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    logging.getLogger("diffusers").setLevel(logging.ERROR)
    folder = build(family, tmp_path).folder
    bundle = load_bundle(folder, family, CPU, torch.float32)
    ends = ("lora_A", "lora_B") if layout == "peft" else ("lora_down", "lora_up")
    stored = {}
    for weight, base in bundle.tensors.items():
        if re.fullmatch(TARGETS, weight):
            module, kernel = _module(family, layout, weight), tuple(base.shape[2:])
            stored[f"{module}.{ends[0]}.weight"] = torch.randn(4, base.shape[1], *kernel) / 4
            stored[f"{module}.{ends[1]}.weight"] = torch.randn(base.shape[0], 4, *(1 for _ in kernel)) / 4
            if layout != "peft":
                stored[f"{module}.alpha"] = torch.tensor(3.0)
    save_file(stored, tmp_path / "lora.safetensors")
    factors = load_factors(tmp_path / "lora.safetensors", bundle.shapes, CPU)
    ours = overlay(bundle, work_on([(factors, Strength(0.7, 0.7))]), {})

    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.load_lora_weights(tmp_path, weight_name="lora.safetensors", adapter_name="a")
    pipe.set_adapters(["a"], [0.7])
    components = ["unet", *KOHYA[family]]
    pipe.fuse_lora(components=components, adapter_names=["a"])
    changed = set()
    for component in components:
        for name, theirs in getattr(pipe, component).state_dict().items():
            if "lora_" in name:
                continue
            name = name.replace(".base_layer", "")
            within = component == "unet" or name.startswith(("text_model.", "text_projection."))
            canonical = f"{component}.{name if within else f'text_model.{name}'}"
            if canonical in bundle.tensors:  # not the position_ids
                torch.testing.assert_close(ours.get(canonical, bundle.tensors[canonical]), theirs, **CLOSE)
                changed |= set() if torch.equal(theirs, bundle.tensors[canonical]) else {canonical}
    assert changed == ours.keys() == {weight for weight in bundle.tensors if re.fullmatch(TARGETS, weight)}
