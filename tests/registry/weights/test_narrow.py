"""float8 weights: kept as they are stored, widened exactly, one layer at a time, for whoever reads them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from registry.errors import NotGenerable
from registry.weights.bundle import bundle_bytes, load_bundle
from registry.weights.narrow import NARROW, resident_dtype, widen, widen_when_read
from tests.registry.tiny import Tiny, ldm_layout

CPU = torch.device("cpu")
WIDE = [torch.float32, torch.bfloat16, torch.float16]
NARROWS = sorted(NARROW, key=str)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("narrow", NARROWS)
def test_every_value_is_widened_exactly(narrow, dtype):
    every = torch.arange(256, dtype=torch.uint8).view(narrow)
    assert torch.equal(widen(every, dtype).double().nan_to_num(9e9), every.double().nan_to_num(9e9))
    again = widen(every, dtype).to(narrow)
    known = ~every.double().isnan()
    assert torch.equal(again.view(torch.uint8)[known], every.view(torch.uint8)[known])


@pytest.mark.parametrize(
    ("name", "shape", "stored", "kept"),
    [
        ("unet.to_q.weight", (4, 4), torch.float8_e4m3fn, torch.float8_e4m3fn),
        ("unet.conv_in.weight", (4, 4, 3, 3), torch.float8_e5m2, torch.float8_e5m2),
        ("text_encoder.token_embedding.weight", (9, 4), torch.float8_e4m3fn, torch.float8_e4m3fn),
        ("unet.to_q.weight", (4, 4), torch.bfloat16, torch.float16),
        ("unet.to_q.bias", (4,), torch.float8_e4m3fn, torch.float16),
        ("unet.norm.weight", (4,), torch.float8_e4m3fn, torch.float16),
        ("transformer.scale_shift_table", (2, 4), torch.float8_e4m3fn, torch.float16),
        ("vae.decoder.conv_in.weight", (4, 4, 3, 3), torch.float8_e4m3fn, torch.float16),
    ],
)
def test_what_stays_narrow(name, shape, stored, kept):
    assert resident_dtype(name, shape, stored, torch.float16) == kept


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (nn.Linear(6, 4), torch.randn(2, 6)),
        (nn.Conv2d(3, 4, 3, padding=1, stride=2), torch.randn(2, 3, 8, 8)),
        (nn.Embedding(9, 4), torch.tensor([1, 8])),
    ],
)
@torch.inference_mode()
def test_a_module_does_what_it_does_with_the_widened_weight(module, x):
    module.requires_grad_(False)
    narrow = module.weight.to(torch.float8_e4m3fn)
    module.weight.data = narrow.float()
    expected = module(x)
    module.weight.data = narrow
    kind = type(module)
    widen_when_read(module, torch.float32)
    assert isinstance(module, kind)
    assert torch.equal(module(x), expected)
    assert "weight" not in dict(module.named_parameters())


def test_a_module_that_is_not_narrow_is_left_alone():
    module = nn.Linear(2, 2)
    widen_when_read(module, torch.float32)
    assert type(module) is nn.Linear
    assert isinstance(module.weight, nn.Parameter)


@pytest.mark.parametrize("narrow", NARROWS)
@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("mapped", [True, False])
def test_a_bundle_of_float8(tiny: Tiny, tmp_path, narrow, dtype, mapped):
    """Its size is known before it is loaded, about half of float16's, and copies of it are no larger."""
    stored = {name: t.to(narrow) if t.dim() > 1 else t.half() for name, t in ldm_layout(tiny.tensors).items()}
    save_file(stored, tmp_path / "narrow.safetensors")
    bundle = load_bundle(tmp_path / "narrow.safetensors", "narrow", CPU, dtype, mapped=mapped)
    assert {tensor.dtype for tensor in bundle.tensors.values()} == {narrow, dtype}
    assert bundle.nbytes == bundle_bytes(tmp_path / "narrow.safetensors", dtype)
    if dtype.itemsize == 2:
        unet = [tensor for name, tensor in bundle.tensors.items() if name.startswith("unet.")]
        assert sum(t.nbytes for t in unet) < 0.6 * 2 * sum(t.numel() for t in unet)
    for name, tensor in tiny.tensors.items():
        wide = tensor.to(narrow) if tensor.dim() > 1 else tensor.half()
        assert torch.equal(bundle.wide(name), wide.to(dtype)), name
    copy = bundle.to(CPU)
    assert (copy.nbytes, copy.fingerprint()) == (bundle.nbytes, bundle.fingerprint())


@pytest.mark.parametrize("narrow", NARROWS)
@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("mapped", [True, False])
def test_a_scaled_bundle_has_the_values_that_the_scales_say(tmp_path, narrow, dtype, mapped):
    """Rounded once. Thirds of a fused projection have its one scale; what does not stay narrow is scaled at once."""
    clip, unet, vae = (
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight",
        "model.diffusion_model.input_blocks.0.0.weight",
        "first_stage_model.encoder.conv_in.weight",
    )
    stored = {name: (torch.randn(6, 4, 3, 3) * 30).to(narrow) for name in (unet, vae)}
    stored |= {clip: (torch.randn(6, 4) * 30).to(narrow), "scaled_fp8": torch.zeros(0, dtype=narrow)}
    scales = {unet: torch.tensor(0.0123), vae: torch.tensor([0.5]), clip: torch.tensor(0.03)}
    beside = {name.removesuffix(".weight") + ".scale_weight": scale for name, scale in scales.items()}
    save_file(stored | beside, tmp_path / "scaled.safetensors")
    bundle = load_bundle(tmp_path / "scaled.safetensors", "scaled", CPU, dtype, mapped=mapped)
    wide = {name: (stored[name].float() * scale).to(dtype) for name, scale in scales.items()}
    assert torch.equal(bundle.wide("unet.conv_in.weight"), wide[unet])
    assert torch.equal(bundle.wide("vae.encoder.conv_in.weight"), wide[vae])
    thirds = [f"text_encoder_2.text_model.encoder.layers.0.self_attn.{part}_proj.weight" for part in "qkv"]
    assert torch.equal(torch.cat([bundle.wide(name) for name in thirds]), wide[clip])
    assert bundle.tensors["unet.conv_in.weight"].dtype == narrow
    assert bundle.tensors.keys() == {"unet.conv_in.weight", "vae.encoder.conv_in.weight", *thirds}
    assert torch.equal(bundle.to(CPU).wide("unet.conv_in.weight"), wide[unet])


def test_what_has_several_scales_a_matrix_is_refused(tmp_path):
    name = "model.diffusion_model.input_blocks.0.0"
    save_file(
        {f"{name}.weight": torch.zeros(6, 4, 3, 3).to(NARROWS[0]), f"{name}.scale_weight": torch.ones(6, 1)},
        tmp_path / "rows.safetensors",
    )
    with pytest.raises(NotGenerable, match=r"scale for each part .*scale_weight is \[6, 1\].*take the file"):
        load_bundle(tmp_path / "rows.safetensors", "rows", CPU, torch.float32)
