"""Stable Diffusion 3's and FLUX.1's own module names are diffusers', as diffusers converts them; fused projections come apart."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from probes import Header, TensorSpec
from registry.compatibility import check_fit, checkpoint_tensors
from registry.errors import NotGenerable
from registry.weights.adapters import Strength, load_factors
from registry.weights.bundle import Bundle, load_bundle
from registry.weights.modules import place
from registry.weights.overlay import overlay
from registry.weights.transformers import FLUX, SD3, makers_names, transformer_of
from registry.weights.work import work_on
from tests.probes.headers import load

CPU = torch.device("cpu")


def _flux():
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        in_channels=8,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=12,
        pooled_projection_dim=10,
        guidance_embeds=True,
        axes_dims_rope=(4, 2, 2),
    )


def _sd3():
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=12,
        caption_projection_dim=16,
        pooled_projection_dim=10,
        pos_embed_max_size=8,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )


def _bundle(model) -> Bundle:
    torch.manual_seed(1)
    tensors = {f"transformer.{name}": torch.randn_like(t) for name, t in model.state_dict().items()}
    return Bundle("transformer", CPU, torch.float32, tensors)


@pytest.fixture(scope="module", params=[_flux, _sd3], ids=["flux-1", "sd-3"])
def bundle(request) -> Bundle:
    return _bundle(request.param())


def _modules(bundle: Bundle) -> set[str]:
    return {n.removeprefix("transformer.").removesuffix(".weight") for n in bundle.tensors if n.endswith(".weight")}


def test_every_fused_module_comes_apart_where_it_was_put_together(bundle: Bundle, tmp_path: Path):
    """LoRA, LoKr and differences on the maker's module, held against the change of the fused weight."""
    fused = {theirs: ours for theirs, ours in makers_names(_modules(bundle)) if "processor" not in theirs}
    assert any(len(ours) == 4 for ours in fused.values()) or transformer_of(_modules(bundle)) is SD3
    torch.manual_seed(2)
    for kind in ("lora", "lokr", "diff"):
        stored: dict[str, Tensor] = {}
        expected: dict[str, Tensor] = {}
        for theirs, ours in fused.items():
            names = [f"transformer.{name}.weight" for name in ours]
            base = torch.cat([bundle.tensors[name] for name in names])
            if base.dim() != 2:
                continue
            rows, columns = base.shape
            key = f"lora_unet_{theirs.replace('.', '_')}"
            if kind == "lora":
                down, up = torch.randn(2, columns), torch.randn(rows, 2)
                stored |= {
                    f"{key}.lora_down.weight": down,
                    f"{key}.lora_up.weight": up,
                    f"{key}.alpha": torch.tensor(1.0),
                }
                change = up @ down / 2
            elif kind == "lokr":
                w1, w2 = torch.randn(2, 2), torch.randn(rows // 2, columns // 2)
                stored |= {f"{key}.lokr_w1": w1, f"{key}.lokr_w2": w2}
                change = torch.kron(w1, w2)
            else:
                stored[f"{key}.diff"] = change = torch.randn(rows, columns)
            pieces = torch.split(base + change * 0.5, [bundle.tensors[name].shape[0] for name in names])
            expected |= dict(zip(names, pieces, strict=True))
        save_file(stored, tmp_path / f"{kind}.safetensors")
        header = Header({name: TensorSpec("F32", tuple(tensor.shape)) for name, tensor in stored.items()})
        assert check_fit(header, bundle.specs).fits
        factors = load_factors(tmp_path / f"{kind}.safetensors", bundle.shapes, CPU)
        patched = overlay(bundle, work_on([(factors, Strength(0.5, 0.5))]), {})
        assert patched.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(patched[name], tensor, rtol=1e-5, atol=1e-5)


def test_flux_as_diffusers_converts_a_kohya_file(tmp_path: Path):
    """Their converter wants the true widths; with rank 1 the file is small."""
    from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers

    wide = 3072
    widths = {  # (in, out) of each module of a double and a single block
        "img_attn.qkv": (wide, 3 * wide), "img_attn.proj": (wide, wide), "img_mlp.0": (wide, 4 * wide), "img_mlp.2": (4 * wide, wide),
        "txt_attn.qkv": (wide, 3 * wide), "txt_attn.proj": (wide, wide), "txt_mlp.0": (wide, 4 * wide), "txt_mlp.2": (4 * wide, wide),
        "img_mod.lin": (wide, 6 * wide), "txt_mod.lin": (wide, 6 * wide),
        "linear1": (wide, 7 * wide), "linear2": (5 * wide, wide), "modulation.lin": (wide, 3 * wide),
    }  # fmt: skip
    stored: dict[str, Tensor] = {}
    torch.manual_seed(3)
    for module, (inner, outer) in widths.items():
        stack = "single" if module in ("linear1", "linear2", "modulation.lin") else "double"
        key = f"lora_unet_{stack}_blocks_0_{module.replace('.', '_')}"
        stored |= {f"{key}.lora_down.weight": torch.randn(1, inner), f"{key}.lora_up.weight": torch.randn(outer, 1)}
        stored[f"{key}.alpha"] = torch.tensor(0.5)
    save_file(stored, tmp_path / "flux.safetensors")
    theirs = _convert_kohya_flux_lora_to_diffusers(dict(stored))
    canonical = {key.split(".lora_")[0] for key in theirs}
    base = {}
    for module in canonical:
        base[f"{module}.weight"] = (
            theirs[f"{module}.lora_B.weight"].shape[0],
            theirs[f"{module}.lora_A.weight"].shape[1],
        )
    factors = load_factors(tmp_path / "flux.safetensors", base, CPU)
    assert {name for (name,) in factors.layers} == base.keys()
    for (name,), layer in factors.layers.items():
        module = name.removesuffix(".weight")
        up, down = theirs[f"{module}.lora_B.weight"], theirs[f"{module}.lora_A.weight"]
        scale = layer.scale
        torch.testing.assert_close(layer.parts["up"][:64] @ layer.parts["down"] * scale, up[:64] @ down)
        torch.testing.assert_close(layer.parts["up"] * layer.parts["down"][0, 0] * scale, up * down[0, 0])


def test_sd3_names_as_diffusers_converts_them():
    """Every module that the table names gets the same slice of the same stored tensor as in their converter."""
    from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

    bundle = _bundle(_sd3())
    stored: dict[str, Tensor] = {}
    named: set[str] = set()
    for theirs, ours in makers_names(_modules(bundle)):
        for kind in ("weight", "bias"):
            stored[f"{theirs}.{kind}"] = torch.cat([bundle.tensors[f"transformer.{name}.{kind}"] for name in ours])
        named |= {f"{name}.{kind}" for name in ours for kind in ("weight", "bias")}
    for block in range(3):  # what no adapter names
        for side in ("x_block", "context_block"):
            stored |= {f"joint_blocks.{block}.{side}.attn.ln_{part}.weight": torch.ones(8) for part in "qk"}
    stored |= {f"joint_blocks.0.x_block.attn2.ln_{side}.weight": torch.ones(8) for side in "qk"}
    for name in ("joint_blocks.2.context_block.adaLN_modulation.1", "final_layer.adaLN_modulation.1"):
        stored |= {f"{name}.weight": torch.ones(32, 16), f"{name}.bias": torch.ones(32)}
    stored["pos_embed"] = torch.ones(1, 64, 16)
    converted = convert_sd3_transformer_checkpoint_to_diffusers(dict(stored))
    assert len(named) > 80
    for name in named:
        assert torch.equal(converted[name], bundle.tensors[f"transformer.{name}"]), name


@pytest.mark.parametrize(
    "name",
    [
        *("flux-1-dev-bfl", "flux-1-schnell-bfl", "flux-1-dev-comfy"),
        *("sd-3-medium-original", "sd-3.5-medium-single-file", "sd-3.5-large-original"),
    ],
)
def test_a_file_is_read_as_diffusers_converts_it(name: str, tmp_path: Path):
    """Every published tensor with as many rows as it has, of one element each."""
    from diffusers.loaders import single_file_utils

    stored = {
        key: torch.randn(spec.shape[0], *(1 for _ in spec.shape[1:])) for key, spec in load(name).header.tensors.items()
    }
    convert = f"convert_{'flux' if 'flux' in name else 'sd3'}_transformer_checkpoint_to_diffusers"
    theirs = getattr(single_file_utils, convert)(dict(stored))
    save_file(stored, tmp_path / "file.safetensors")
    for mapped in (True, False):
        ours = load_bundle(tmp_path / "file.safetensors", name, CPU, torch.float32, mapped=mapped).tensors
        assert ours.keys() == {f"transformer.{key}" for key in theirs}
        assert all(torch.equal(ours[f"transformer.{key}"], tensor) for key, tensor in theirs.items())


@pytest.mark.parametrize(
    ("key", "weights"),
    [
        ("transformer.transformer_blocks.0.attn.to_q.lora_A.weight", ["transformer_blocks.0.attn.to_q"]),
        (
            "lora_transformer_single_transformer_blocks_1_proj_mlp.lora_down.weight",
            ["single_transformer_blocks.1.proj_mlp"],
        ),
        ("diffusion_model.double_blocks.1.img_mlp.0.lora_A.weight", ["transformer_blocks.1.ff.net.0.proj"]),
        (
            "double_blocks.0.processor.qkv_lora2.down.weight",
            [f"transformer_blocks.0.attn.add_{side}_proj" for side in "qkv"],
        ),
        (
            "lora_unet_single_blocks_0_linear1.lora_down.weight",
            [f"single_transformer_blocks.0.{name}" for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")],
        ),
    ],
)
def test_flux_spellings(key, weights):
    names = [f"transformer.{name}" for name in _flux().state_dict()]
    assert place([key], names)[0] == {tuple(f"transformer.{name}.weight" for name in weights): {"down": key}}


def test_a_weight_that_is_changed_twice_in_one_file_is_refused():
    names = [f"transformer.{name}" for name in _flux().state_dict()]
    keys = [
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight",
        "lora_unet_transformer_blocks_0_attn_to_q.lora_down.weight",
    ]
    layers, problems = place(keys, names)
    assert len(layers) == 1
    assert "a second time" in problems[keys[1]]


def test_a_folder_of_a_known_transformer_can_be_compared_and_another_s_cannot(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _flux().save_pretrained(tmp_path / "flux" / "transformer")
    found = checkpoint_tensors(tmp_path / "flux")
    assert transformer_of({n.removeprefix("transformer.").removesuffix(".weight") for n in found}) is FLUX
    (tmp_path / "other" / "transformer").mkdir(parents=True)
    save_file(
        {"blocks.0.attn1.to_q.weight": torch.zeros(2, 2)},
        tmp_path / "other" / "transformer" / "diffusion_pytorch_model.safetensors",
    )
    with pytest.raises(NotGenerable, match="no layout that is known"):
        checkpoint_tensors(tmp_path / "other")
