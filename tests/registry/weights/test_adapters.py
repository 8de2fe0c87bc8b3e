"""Overlays are what diffusers and PEFT merge; the published formula decides where they have none."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from registry.errors import UnusableFile
from registry.weights import overlay as overlays
from registry.weights.adapters import Factors, Strength, load_factors
from registry.weights.bundle import Bundle, load_bundle
from registry.weights.overlay import overlay
from registry.weights.work import work_on
from tests.registry.tiny import ATTENTION, EVERYTHING, TEXT_ENCODER, Tiny, lora

CPU = torch.device("cpu")
CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # float32; sums of `rank` products in another order


@pytest.fixture(scope="module")
def bundle(tiny: Tiny) -> Bundle:
    return load_bundle(tiny.folder, "tiny", CPU, torch.float32)


@pytest.fixture
def saved(tmp_path: Path):
    def save(tensors: dict[str, Tensor], name: str = "lora", **metadata: str) -> Path:
        save_file(tensors, tmp_path / f"{name}.safetensors", metadata or None)
        return tmp_path / f"{name}.safetensors"

    return save


def _factors(path: Path, bundle: Bundle) -> Factors:
    return load_factors(path, bundle.shapes, CPU)


def _overlay(bundle: Bundle, adapters: list[tuple[Factors, float]], **how) -> dict[str, Tensor]:
    return overlay(bundle, work_on([(factors, Strength(weight, weight)) for factors, weight in adapters]), {}, **how)


def _fused_by_diffusers(tiny: Tiny, files: list[tuple[Path, float]]) -> dict[str, Tensor]:
    """Canonical name -> weight after `load_lora_weights`, `set_adapters` and `fuse_lora`."""
    from diffusers import StableDiffusionPipeline

    logging.getLogger("diffusers").setLevel(logging.ERROR)  # says that a file without text encoder keys has none
    pipe = StableDiffusionPipeline.from_pretrained(tiny.folder, safety_checker=None, local_files_only=True)
    for index, (path, _) in enumerate(files):
        pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name=f"a{index}")
    pipe.set_adapters([f"a{index}" for index in range(len(files))], [weight for _, weight in files])
    pipe.fuse_lora(adapter_names=[f"a{index}" for index in range(len(files))])
    merged = {}
    for component in ("unet", "text_encoder"):
        for name, tensor in getattr(pipe, component).state_dict().items():
            prefix = "text_model." if component == "text_encoder" and not name.startswith("text_model.") else ""
            merged[f"{component}.{prefix}{name.replace('.base_layer', '')}"] = tensor
    return {name: merged[name] for name in tiny.tensors if name in merged}


@pytest.mark.parametrize(
    ("layout", "targets", "alpha"),
    [
        ("kohya", f"{EVERYTHING}|{TEXT_ENCODER}", 1.5),
        ("kohya", EVERYTHING, 3.0),
        ("kohya", ATTENTION, None),
        ("diffusers", f"{ATTENTION}|{TEXT_ENCODER}", None),
    ],
)
@pytest.mark.parametrize("weight", [1.0, 0.35, -0.5])
def test_one_adapter_as_diffusers_fuses_it(tiny: Tiny, bundle: Bundle, saved, layout, targets, alpha, weight):
    path = saved(lora(tiny.tensors, targets, layout=layout, alpha=alpha))
    expected = _fused_by_diffusers(tiny, [(path, weight)])
    ours = _overlay(bundle, [(_factors(path, bundle), weight)])
    for name, tensor in expected.items():
        torch.testing.assert_close({**bundle.tensors, **ours}[name], tensor, **CLOSE)
    assert ours.keys() == {name for name, tensor in expected.items() if not torch.equal(tensor, tiny.tensors[name])}


# diffusers' way with several adapters, which PEFT remarks upon
@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")
def test_several_adapters_as_diffusers_fuses_them(tiny: Tiny, bundle: Bundle, saved):
    files = [
        (saved(lora(tiny.tensors, EVERYTHING, layout="kohya", alpha=2.0, seed=1), "lcm"), 0.35),
        (
            saved(
                lora(tiny.tensors, f"{ATTENTION}|{TEXT_ENCODER}", layout="kohya", alpha=8.0, rank=8, seed=2), "style"
            ),
            0.45,
        ),
        (saved(lora(tiny.tensors, ATTENTION, layout="diffusers", rank=2, seed=3), "third"), -0.7),
    ]
    ours = _overlay(bundle, [(_factors(path, bundle), weight) for path, weight in files])
    for name, tensor in _fused_by_diffusers(tiny, files).items():
        torch.testing.assert_close({**bundle.tensors, **ours}[name], tensor, **CLOSE)


def test_a_file_that_diffusers_itself_wrote(tiny: Tiny, bundle: Bundle, tmp_path):
    """With its LoraConfig in the metadata: alpha, rsLoRA and patterns are in there, not in tensors."""
    from diffusers import StableDiffusionPipeline
    from diffusers.training_utils import _collate_lora_metadata
    from peft import LoraConfig, get_peft_model_state_dict

    pipe = StableDiffusionPipeline.from_pretrained(tiny.folder, safety_checker=None, local_files_only=True)
    torch.manual_seed(3)
    config = LoraConfig(
        r=4,
        lora_alpha=2,
        target_modules=["to_q", "to_k", "conv1"],
        init_lora_weights=False,
        alpha_pattern={"to_k": 7},
        use_rslora=True,
    )
    pipe.unet.add_adapter(config)
    pipe.text_encoder.add_adapter(
        LoraConfig(r=2, lora_alpha=5, target_modules=["q_proj", "fc1"], init_lora_weights=False)
    )
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(pipe.unet),
        text_encoder_lora_layers=get_peft_model_state_dict(pipe.text_encoder),
        **_collate_lora_metadata({"unet": pipe.unet, "text_encoder": pipe.text_encoder}),
    )
    path = tmp_path / "pytorch_lora_weights.safetensors"
    ours = _overlay(bundle, [(_factors(path, bundle), 0.8)])
    assert any("text_encoder" in name for name in ours)
    assert any("conv1" in name for name in ours)
    for name, tensor in _fused_by_diffusers(tiny, [(path, 0.8)]).items():
        torch.testing.assert_close({**bundle.tensors, **ours}[name], tensor, **CLOSE)


@pytest.mark.parametrize("layout", ["kohya-ldm", "diffusers", "peft"])
def test_layouts_that_diffusers_loads_half_or_not_at_all(tiny: Tiny, bundle: Bundle, saved, layout):
    """diffusers 0.42 knows LDM names for SDXL only, and of a file with both `.lora.down` and `lora_A` it attaches only the latter."""
    expected, ours = (
        _overlay(bundle, [(_factors(saved(lora(tiny.tensors, EVERYTHING, layout=spelling), spelling), bundle), 0.5)])
        for spelling in ("kohya", layout)
    )
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in ours)


def test_lora_mid_is_a_convolution_between_two_1x1(tiny: Tiny, bundle: Bundle, saved):
    """LyCORIS' Tucker form: the three convolutions one after another do what the merged weight adds."""
    tensors = lora(tiny.tensors, r"unet\..*resnets\.0\.conv1\.weight", layout="kohya-lycoris", alpha=2.0)
    ours = _overlay(bundle, [(_factors(saved(tensors), bundle), 0.6)])
    name, key = "unet.mid_block.resnets.0.conv1.weight", "lora_unet_mid_block_resnets_0_conv1"
    x = torch.randn(1, 32, 6, 6)
    by_parts = torch.nn.functional.conv2d(x, tensors[f"{key}.lora_down.weight"])
    by_parts = torch.nn.functional.conv2d(by_parts, tensors[f"{key}.lora_mid.weight"], padding=1)
    by_parts = torch.nn.functional.conv2d(by_parts, tensors[f"{key}.lora_up.weight"])
    change = torch.nn.functional.conv2d(x, ours[name] - bundle.tensors[name], padding=1)
    torch.testing.assert_close(change, by_parts * 0.6 * 2.0 / 4, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_lora_mid_of_a_half_precision_file_is_not_rounded_on_its_way(tiny: Tiny, bundle: Bundle, saved, dtype):
    name, key = "unet.mid_block.resnets.0.conv1.weight", "lora_unet_mid_block_resnets_0_conv1"
    tensors = {k: t.to(dtype) for k, t in lora(tiny.tensors, name, layout="kohya-lycoris").items()}
    ours = _overlay(bundle, [(_factors(saved(tensors), bundle), 1.0)])[name] - bundle.tensors[name]
    up, mid, down = (tensors[f"{key}.lora_{part}.weight"].float() for part in ("up", "mid", "down"))
    change = torch.einsum("oi,ijhw,jc->ochw", up.flatten(1), mid, down.flatten(1))
    torch.testing.assert_close(ours, change, rtol=1e-5, atol=2e-6)


def test_weight_0_touches_nothing(tiny: Tiny, bundle: Bundle, saved):
    factors = _factors(saved(lora(tiny.tensors, ATTENTION, layout="kohya")), bundle)
    assert _overlay(bundle, [(factors, 0.0)]) == {}
    assert _overlay(bundle, []) == {}
    alone = _overlay(bundle, [(factors, 0.5)])
    beside = _overlay(bundle, [(factors, 0.5), (factors, 0.0)])
    assert all(torch.equal(alone[name], beside[name]) for name in alone)


def test_the_base_is_not_written(tiny: Tiny, bundle: Bundle, saved):
    before = bundle.fingerprint()
    patched = _overlay(bundle, [(_factors(saved(lora(tiny.tensors, EVERYTHING, layout="kohya")), bundle), 1.0)])
    own = {tensor.untyped_storage().data_ptr() for tensor in bundle.tensors.values()}
    assert not own & {tensor.untyped_storage().data_ptr() for tensor in patched.values()}
    assert bundle.fingerprint() == before


@pytest.mark.parametrize("size", [1, 4000, 2**30])
def test_batching_changes_nothing_but_speed(tiny: Tiny, bundle: Bundle, saved, monkeypatch, size):
    files = [
        saved(lora(tiny.tensors, EVERYTHING, layout="kohya", rank=4), "a"),
        saved(lora(tiny.tensors, ATTENTION, layout="kohya", rank=3), "b"),
    ]
    worn = [(_factors(path, bundle), 0.5) for path in files]
    expected = _overlay(bundle, worn)
    monkeypatch.setattr(overlays, "BATCH_BYTES", size)
    batched = _overlay(bundle, worn, batched=True)
    assert batched.keys() == expected.keys()
    for name, tensor in batched.items():
        torch.testing.assert_close(tensor, expected[name], **CLOSE)


def test_half_precision_is_rounded_once(tiny: Tiny, saved, monkeypatch):
    """Against the float32 result of the same half-precision base: within half a unit in the last place.

    In chunks too small for a whole matrix the sums have another order, which can round to the next number.
    """
    half = load_bundle(tiny.folder, "half", CPU, torch.float16)
    path = saved(
        {name: tensor.half() for name, tensor in lora(tiny.tensors, EVERYTHING, layout="kohya", alpha=1.0).items()}
    )
    factors = load_factors(path, half.shapes, CPU)
    exact = Bundle("exact", CPU, torch.float32, {name: tensor.float() for name, tensor in half.tensors.items()})
    monkeypatch.setattr(overlays, "fused", lambda dtype: None)  # which adds up in an order of its own
    expected = _overlay(exact, [(factors, 0.7)])
    for name, tensor in _overlay(half, [(factors, 0.7)]).items():
        assert tensor.dtype == torch.float16
        assert torch.equal(tensor, expected[name].half())
    monkeypatch.setattr(overlays, "CHUNK_BYTES", 700)
    monkeypatch.setattr(overlays, "CHUNK_ROWS", 1)
    for name, tensor in _overlay(half, [(factors, 0.7)]).items():
        torch.testing.assert_close(tensor, expected[name].half(), rtol=2**-10, atol=2**-24)


def test_a_damaged_file(tmp_path, bundle: Bundle):
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 9)
    with pytest.raises(UnusableFile, match=r"cut\.safetensors"):
        load_factors(tmp_path / "cut.safetensors", bundle.shapes, CPU)


@pytest.mark.parametrize(("mapped", "ends"), [(True, -signal.SIGBUS), (False, 0)])
def test_a_file_that_others_may_shorten_is_read_and_not_mapped(tmp_path: Path, saved, mapped: bool, ends: int):
    """Of a mapped one the pages are gone with the bytes, and whoever touches them is ended by the kernel."""
    path = saved(
        {"lora_unet_to_q.lora_down.weight": torch.ones(4, 9000), "lora_unet_to_q.lora_up.weight": torch.ones(8, 4)}
    )
    code = f"""
import torch
from pathlib import Path
from registry.weights.adapters import load_factors
path = Path({str(path)!r})
factors = load_factors(path, {{"unet.to_q.weight": (8, 9000)}}, torch.device("cpu"), mapped={mapped})
with path.open("r+b") as file:
    file.truncate(0)
(layer,) = factors.layers.values()
assert layer.parts["down"].sum() == 4 * 9000
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == ends


def test_metadata_that_is_not_diffusers_is_ignored(tiny: Tiny, bundle: Bundle, saved):
    tensors = lora(tiny.tensors, ATTENTION, layout="diffusers")
    plain = _factors(saved(tensors, "plain"), bundle)
    noted = _factors(
        saved(tensors, "noted", format="pt", lora_adapter_metadata=json.dumps({"text_encoder.lora_alpha": 9})), bundle
    )
    assert {layer.scale for layer in plain.layers.values()} == {layer.scale for layer in noted.layers.values()} == {1.0}


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        *((text, "lora_adapter_metadata") for text in ("{", "[]", "3")),
        ('{"unet.lora_alpha": 2, "unet.alpha_pattern": {"(.*.*)*x": 1}}', "alpha_pattern"),
        ('{"unet.lora_alpha": 2, "unet.alpha_pattern": [1]}', "alpha_pattern"),
        ('{"unet.lora_alpha": "two"}', "no numbers"),
    ],
)
def test_metadata_that_is_no_configuration_is_refused(saved, bundle, metadata, said):
    weight = next(name for name in bundle.tensors if name.endswith("attn2.to_q.weight"))
    key = weight.removesuffix(".weight")
    rows, columns = bundle.tensors[weight].shape
    tensors = {f"{key}.lora_A.weight": torch.zeros(2, columns), f"{key}.lora_B.weight": torch.zeros(rows, 2)}
    with pytest.raises(UnusableFile, match=said):
        load_factors(saved(tensors, "odd", format="pt", lora_adapter_metadata=metadata), bundle.shapes, bundle.device)
