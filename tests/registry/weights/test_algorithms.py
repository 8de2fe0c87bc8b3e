"""Every algorithm on a whole (tiny) UNet: merged as LyCORIS and PEFT merge it, and beside the layer as merged."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from probes import read_header
from registry.compatibility import check_fit
from registry.errors import IncompatibleAdapter
from registry.weights.adapters import Factors, Strength, load_factors
from registry.weights.algorithms import ALGORITHMS
from registry.weights.bundle import Bundle, load_bundle
from registry.weights.deltas import DELTAS
from registry.weights.overlay import Slot, Wearer, overlay
from registry.weights.work import work_on
from tests.registry.tiny import Tiny

CPU = torch.device("cpu")
CLOSE = {"rtol": 1e-5, "atol": 2e-6}  # float32; the same sums in another order
RANK = 4


@pytest.fixture(scope="module")
def bundle(tiny: Tiny) -> Bundle:
    return load_bundle(tiny.folder, "tiny", CPU, torch.float32)


def _unet(tiny: Tiny):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(tiny.folder, subfolder="unet", local_files_only=True).eval()


def _merged(bundle: Bundle, path: Path, weight: float) -> dict[str, Tensor]:
    """The UNet's tensors with the file merged into them by us, which fits as its header says."""
    fit = check_fit(read_header(path), bundle.specs)
    assert fit.fits, fit.reason
    factors = load_factors(path, bundle.shapes, CPU)
    patched = overlay(bundle, work_on([(factors, Strength(weight, weight))]), {})
    return {name.removeprefix("unet."): patched.get(name, tensor) for name, tensor in bundle.tensors.items()}


def _same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], base: Mapping[str, Tensor], least: int) -> None:
    """At least so many tensors differ from the base, and all are theirs."""
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, **CLOSE, msg=lambda said, name=name: f"{name}: {said}")
    assert sum(not torch.allclose(theirs[name], base[name], rtol=1e-3) for name in theirs) >= least


# --- LyCORIS ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lycoris:
    """`scaled`: alpha may differ from the rank; LyCORIS' own merge applies alpha / rank twice for LoHa and LoKr. `linear`: it has our
    meaning of a weight other than 1 (`deltas.decomposed` says why DoRA has not, rescaled OFT neither)."""

    algorithm: str
    options: Mapping[str, Any]
    parts: tuple[str, ...]
    scaled: bool = True
    linear: bool = True
    least: int = 100


LYCORIS = [
    Lycoris("lora", {}, ("lora_up.weight", "lora_down.weight")),
    Lycoris("lora", {"use_tucker": True}, ("lora_mid.weight",)),
    Lycoris("lora", {"train_norm": True}, ("w_norm", "b_norm")),
    Lycoris("lora", {"dora_wd": True}, ("dora_scale",), linear=False),
    Lycoris("lora", {"dora_wd": True, "wd_on_output": False}, ("dora_scale",), linear=False),
    Lycoris("loha", {}, ("hada_w1_a", "hada_w2_b"), scaled=False),
    Lycoris("loha", {"use_tucker": True}, ("hada_t1", "hada_t2"), scaled=False),
    Lycoris("loha", {"dora_wd": True}, ("hada_w1_a", "dora_scale"), scaled=False, linear=False),
    Lycoris("lokr", {"factor": 2}, ("lokr_w1", "lokr_w2_a", "lokr_w2_b"), scaled=False),
    Lycoris("lokr", {"factor": 2, "use_tucker": True}, ("lokr_t2",), scaled=False),
    Lycoris("lokr", {"factor": 16, "decompose_both": True, "linear_dim": 1}, ("lokr_w1_a", "lokr_w1_b"), scaled=False),
    Lycoris("lokr", {"full_matrix": True}, ("lokr_w1", "lokr_w2"), scaled=False),
    Lycoris("lokr", {"factor": 2, "dora_wd": True}, ("lokr_w2_a", "dora_scale"), scaled=False, linear=False),
    Lycoris("glora", {}, ("a1.weight", "b2.weight")),
    Lycoris("ia3", {}, ("weight", "on_input")),
    Lycoris("diag-oft", {}, ("oft_blocks",)),
    Lycoris("diag-oft", {"constraint": 1e-4}, ("oft_blocks", "alpha")),
    Lycoris("diag-oft", {"rescaled": True}, ("rescale",), linear=False),
    Lycoris("boft", {}, ("oft_blocks",)),
    Lycoris("boft", {"rescaled": True}, ("rescale",), linear=False),
]


def _network(unet, case: Lycoris, path: Path, alpha: float, noise: float):
    """A LyCORIS network of random values for a UNet, saved at `path`."""
    from lycoris import create_lycoris

    options = {"linear_dim": RANK, **case.options}
    network = create_lycoris(
        unet, 1.0, linear_alpha=alpha, conv_alpha=alpha, algo=case.algorithm, preset="full", **options
    )
    with torch.no_grad():
        for module in network.loras:
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * noise)
    stored = {
        f"{m.lora_name}.{key}": tensor.contiguous() for m in network.loras for key, tensor in m.state_dict().items()
    }
    save_file(stored, path)
    assert {key.split(".", 1)[1] for key in stored} >= set(case.parts)
    return network


@pytest.mark.parametrize("case", LYCORIS, ids=lambda case: "-".join([case.algorithm, *case.options]))
def test_as_lycoris_merges_it(tiny: Tiny, bundle: Bundle, tmp_path: Path, case: Lycoris):
    path = tmp_path / "lycoris.safetensors"
    for weight in (1.0, 0.6, -0.5) if case.linear else (1.0,):
        torch.manual_seed(5)
        unet = _unet(tiny)
        base = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
        network = _network(unet, case, path, 1.5 if case.scaled else case.options.get("linear_dim", RANK), 0.2)
        with torch.no_grad():
            network.merge_to(weight)
        _same(_merged(bundle, path, weight), unet.state_dict(), base, case.least)


def test_full_differences_as_lycoris_merges_them(tiny: Tiny, bundle: Bundle, tmp_path: Path):
    from lycoris import create_lycoris_from_weights

    torch.manual_seed(6)
    unet = _unet(tiny)
    base = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    tensors = {}
    for name in ("conv_in", "mid_block.resnets.0.conv1", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"):
        key = f"lycoris_{name.replace('.', '_')}"
        tensors[f"{key}.diff"] = torch.randn_like(base[f"{name}.weight"]) * 0.1
        if f"{name}.bias" in base:
            tensors[f"{key}.diff_b"] = torch.randn_like(base[f"{name}.bias"]) * 0.1
    path = tmp_path / "full.safetensors"
    save_file(tensors, path)
    with torch.no_grad():
        create_lycoris_from_weights(0.7, str(path), unet)[0].merge_to(0.7)
    _same(_merged(bundle, path, 0.7), unet.state_dict(), base, 5)


@pytest.mark.parametrize("algorithm", ["loha", "lokr"])
def test_alpha_counts_once(bundle: Bundle, tmp_path: Path, algorithm):
    """As in LyCORIS' functional form, which its training and its unmerged forward pass use."""
    from lycoris.functional import loha, lokr

    torch.manual_seed(7)
    name = "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.2.weight"
    base = bundle.tensors[name]
    made = {"loha": loha, "lokr": lokr}[algorithm].weight_gen(base, RANK, tucker=False)
    parts = [None if part is None else torch.randn_like(part) for part in made]
    names = {
        "loha": ["hada_w1_b", "hada_w1_a", "hada_w2_b", "hada_w2_a", "hada_t1", "hada_t2"],
        "lokr": ["lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"],
    }[algorithm]
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_2"
    stored = {f"{key}.{part}": tensor for part, tensor in zip(names, parts, strict=True) if tensor is not None}
    save_file({**stored, f"{key}.alpha": torch.tensor(1.0)}, tmp_path / "alpha.safetensors")
    ours = _merged(bundle, tmp_path / "alpha.safetensors", 1.0)[name.removeprefix("unet.")]
    merged = {
        "loha": lambda: loha.diff_weight(*parts, gamma=torch.tensor(1 / RANK)),
        "lokr": lambda: lokr.kron_weight(*parts, scale=1 / RANK),
    }
    change = merged[algorithm]()
    torch.testing.assert_close(ours, base + change, **CLOSE)


def test_dora_goes_its_way_from_the_base(tiny: Tiny, bundle: Bundle, tmp_path: Path):
    """A weight other than 1 is LyCORIS' `apply_dora_scale`: that part of the difference that DoRA makes."""
    from lycoris.functional.general import apply_dora_scale

    torch.manual_seed(8)
    name = "unet.mid_block.resnets.0.conv1.weight"
    base, key = bundle.tensors[name], "lora_unet_mid_block_resnets_0_conv1"
    down, up = torch.randn(RANK, base.shape[1], 3, 3) / 4, torch.randn(base.shape[0], RANK, 1, 1) / 4
    scale = torch.rand(1, base.shape[1], 1, 1) + 0.5
    parts = {"lora_down.weight": down, "lora_up.weight": up, "dora_scale": scale, "alpha": torch.tensor(2.0)}
    save_file({f"{key}.{part}": tensor for part, tensor in parts.items()}, tmp_path / "dora.safetensors")
    change = (up.flatten(1) @ down.flatten(1)).view_as(base) * 2.0 / RANK
    for weight in (1.0, 0.6, -0.5):
        ours = _merged(bundle, tmp_path / "dora.safetensors", weight)[name.removeprefix("unet.")]
        torch.testing.assert_close(ours, apply_dora_scale(base, change, scale, weight), **CLOSE)


def test_glora_files_from_before_lycoris_2(bundle: Bundle, tmp_path: Path):
    """Their pairs are exchanged; the formula is W a2 a1 + b2 b1."""
    torch.manual_seed(9)
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    base, key = bundle.tensors[name], "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    rows, columns = base.shape
    shapes = {"a1": (RANK, columns), "a2": (columns, RANK), "b1": (RANK, columns), "b2": (rows, RANK)}
    parts = {name: torch.randn(shape) / 4 for name, shape in shapes.items()}
    save_file(
        {**{f"{key}.{part}.weight": tensor for part, tensor in parts.items()}, f"{key}.alpha": torch.tensor(2.0)},
        tmp_path / "old.safetensors",
    )
    expected = base + (base @ parts["a2"] @ parts["a1"] + parts["b2"] @ parts["b1"]) * 2.0 / RANK * 0.6
    ours = _merged(bundle, tmp_path / "old.safetensors", 0.6)[name.removeprefix("unet.")]
    torch.testing.assert_close(ours, expected, **CLOSE)


# --- PEFT ---------------------------------------------------------------------------------------------------------------

LINEAR, CONVOLUTIONS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.2"], ["conv1", "conv2", "conv_shortcut"]


def _peft_cases() -> dict[str, Callable[[], Any]]:
    import peft

    both = [*LINEAR, *CONVOLUTIONS]
    return {
        "lora": lambda: peft.LoraConfig(r=RANK, lora_alpha=3, target_modules=both, init_lora_weights=False),
        "rslora": lambda: peft.LoraConfig(
            r=RANK,
            lora_alpha=3,
            target_modules=both,
            init_lora_weights=False,
            use_rslora=True,
            alpha_pattern={"to_k": 7},
        ),
        "lora-bias": lambda: peft.LoraConfig(
            r=RANK, lora_alpha=3, target_modules=["to_out.0"], init_lora_weights=False, lora_bias=True
        ),
        "dora": lambda: peft.LoraConfig(
            r=RANK, lora_alpha=3, target_modules=both, init_lora_weights=False, use_dora=True
        ),
        "loha": lambda: peft.LoHaConfig(r=RANK, alpha=3, target_modules=both, init_weights=False),
        "loha-effective": lambda: peft.LoHaConfig(
            r=RANK, alpha=3, target_modules=both, init_weights=False, use_effective_conv2d=True
        ),
        "lokr": lambda: peft.LoKrConfig(r=RANK, alpha=3, target_modules=both, init_weights=False),
        "lokr-effective": lambda: peft.LoKrConfig(
            r=2, alpha=3, target_modules=both, init_weights=False, use_effective_conv2d=True, decompose_factor=2
        ),
        "ia3": lambda: peft.IA3Config(target_modules=LINEAR, feedforward_modules=["ff.net.2"], init_ia3_weights=False),
        "oft": lambda: peft.OFTConfig(target_modules=LINEAR, r=2, oft_block_size=0, use_cayley_neumann=False),
        "oft-neumann": lambda: peft.OFTConfig(target_modules=both, r=2, oft_block_size=0),
        "oft-shared": lambda: peft.OFTConfig(target_modules=LINEAR, r=2, oft_block_size=0, block_share=True),
    }


@pytest.mark.parametrize("name", _peft_cases())
def test_as_peft_merges_it(tiny: Tiny, bundle: Bundle, tmp_path: Path, name):
    """adapter_model.safetensors has no alpha in it; it is in adapter_config.json beside it."""
    from peft import get_peft_model

    torch.manual_seed(10)
    unet = _unet(tiny)
    base = {key: tensor.clone() for key, tensor in unet.state_dict().items()}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # PEFT's remarks on block sizes, and on biases of its own
        model = get_peft_model(unet, _peft_cases()[name]())
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(torch.randn_like(parameter) * 0.05)
        model.save_pretrained(tmp_path)
    theirs = model.merge_and_unload().state_dict()
    _same(_merged(bundle, tmp_path / "adapter_model.safetensors", 1.0), theirs, base, 3)


# --- beside the layer, and in any order ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tiny: Tiny, tmp_path_factory) -> dict[str, Path]:
    """One file of every kind of algorithm for the whole UNet."""
    made = {}
    for case in LYCORIS:
        torch.manual_seed(11)
        name = "-".join([case.algorithm, *case.options])
        made[name] = tmp_path_factory.mktemp("files") / f"{name}.safetensors"
        _network(_unet(tiny), case, made[name], RANK, 0.05)
    return made


def _worn(tiny: Tiny, bundle: Bundle, stable: bool = False):
    unet = _unet(tiny)
    slots = {}
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(False)
        parameter.data = bundle.tensors[f"unet.{name}"]
        slots[f"unet.{name}"] = Slot(unet.get_submodule(name.rpartition(".")[0]), parameter)
    return unet, Wearer(bundle, slots, stable=stable)


@torch.inference_mode()
def _runs(unet) -> Tensor:
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    text = torch.randn(1, 6, 24, generator=torch.Generator().manual_seed(2))
    return unet(x, 17, text).sample


@pytest.mark.parametrize("case", LYCORIS, ids=lambda case: "-".join([case.algorithm, *case.options]))
def test_beside_the_layer_as_merged_into_it(tiny: Tiny, bundle: Bundle, files, case: Lycoris):
    factors = load_factors(files["-".join([case.algorithm, *case.options])], bundle.shapes, CPU)
    unet, wearer = _worn(tiny, bundle)
    plain = _runs(unet)
    for weight in (1.0, -0.4):
        worn = {"one": (factors, Strength(weight, weight))}
        wearer.wear(worn)
        merged = _runs(unet)
        assert wearer.nbytes == wearer.needs(worn) > 0
        needed = wearer.needs(worn, merged=False)
        wearer.wear(worn, merged=False)
        assert wearer.nbytes == needed
        assert needed < 0.2 * wearer.needs(worn) or "train_norm" in case.options
        torch.testing.assert_close(_runs(unet), merged, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(merged, plain, rtol=1e-3, atol=1e-4)
    wearer.take_off()
    assert torch.equal(_runs(unet), plain)


def test_a_set_is_the_sum_of_its_changes_in_any_order(bundle: Bundle, files):
    names = ["lora", "lokr-factor", "lora-dora_wd", "boft"]
    loaded = {name: load_factors(files[name], bundle.shapes, CPU) for name in names}
    alone = {name: overlay(bundle, work_on([(loaded[name], Strength(0.5, 0.5))]), {}) for name in names}
    for order in (names, names[::-1]):
        together = overlay(bundle, work_on([(loaded[name], Strength(0.5, 0.5)) for name in order]), {})
        for weight, tensor in together.items():
            base = bundle.tensors[weight]
            changes = [patched[weight] - base for patched in alone.values() if weight in patched]
            torch.testing.assert_close(tensor, base + sum(changes), rtol=1e-4, atol=1e-5)


def test_text_encoder_and_denoiser_have_weights_of_their_own(tiny: Tiny, bundle: Bundle, tmp_path: Path):
    from tests.registry.tiny import ATTENTION, TEXT_ENCODER, lora

    save_file(lora(tiny.tensors, f"{ATTENTION}|{TEXT_ENCODER}", layout="kohya"), tmp_path / "both.safetensors")
    factors = load_factors(tmp_path / "both.safetensors", bundle.shapes, CPU)
    whole = {weight: overlay(bundle, work_on([(factors, Strength(weight, weight))]), {}) for weight in (0.3, -0.8)}
    mixed = overlay(bundle, work_on([(factors, Strength(denoiser=0.3, text=-0.8))]), {})
    for name, tensor in mixed.items():
        assert torch.equal(tensor, whole[-0.8 if name.startswith("text_encoder") else 0.3][name])
    unet_only = overlay(bundle, work_on([(factors, Strength(denoiser=0.3, text=0.0))]), {})
    assert {name.partition(".")[0] for name in unet_only} == {"unet"}


def test_every_algorithm_has_its_function():
    """But for the one that changes nothing but a bias."""
    assert DELTAS.keys() == {algorithm.name for algorithm in ALGORITHMS} - {"bias difference"}


def test_tensors_without_a_place_are_an_error_that_names_them(bundle: Bundle, tmp_path: Path):
    strange = {f"lora_unet_nowhere_{i}.lora_down.weight": torch.zeros(1, 1) for i in range(30)}
    save_file({**strange, "lora_unet_conv_in.lora_up.weight": torch.zeros(16, 1)}, tmp_path / "strange.safetensors")
    with pytest.raises(IncompatibleAdapter, match=re.escape("31 tensors without a place")) as caught:
        load_factors(tmp_path / "strange.safetensors", bundle.shapes, CPU)
    assert caught.value.detail["count"] == 31
    assert len(caught.value.detail["problems"]) == 20


def test_factors_take_what_the_file_takes(bundle: Bundle, files):
    """Mapped, all of it; laid one after another, as on a GPU, the factors alone."""
    factors: Factors = load_factors(files["lora"], bundle.shapes, CPU)
    assert factors.nbytes == files["lora"].stat().st_size
    stacked = load_factors(files["lora"], bundle.shapes, CPU, mapped=False, stacked=True)
    assert stacked.nbytes == sum(t.nbytes for key, t in load_file(files["lora"]).items() if not key.endswith("alpha"))
