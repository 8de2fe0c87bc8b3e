"""Put on and taken off in any order, the base comes back bit for bit; what is asked for again costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from registry.weights import overlay as overlays
from registry.weights.adapters import Factors, Strength, load_factors
from registry.weights.bundle import Bundle
from registry.weights.narrow import widen_when_read
from registry.weights.overlay import Slot, Wearer
from registry.weights.work import work_on

CPU = torch.device("cpu")
RANK = 2


class Net(nn.Module):
    """Each kind of layer that adapters touch, two of one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 8, 3, padding=1)
        self.norm1 = nn.GroupNorm(2, 8)
        self.to_q = nn.Linear(8, 8)
        self.to_k = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.to_k(self.to_q(self.norm1(self.conv1(x)).flatten(2).mT))


def _files(folder: Path) -> dict[str, Path]:
    """One adapter of every algorithm, each on other layers."""
    random = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random) * 0.3

    conv, q, k, norm = (f"lora_unet_{name}" for name in ("conv1", "to_q", "to_k", "norm1"))
    made = {
        "lora": {f"{q}.lora_down.weight": draw(RANK, 8), f"{q}.lora_up.weight": draw(8, RANK)},
        "locon": {
            f"{conv}.lora_down.weight": draw(RANK, 4, 3, 3),
            f"{conv}.lora_up.weight": draw(8, RANK, 1, 1),
            f"{k}.lora_down.weight": draw(RANK, 8),
            f"{k}.lora_up.weight": draw(8, RANK),
            f"{conv}.alpha": torch.tensor(1.0),
        },
        "dora": {
            f"{q}.lora_down.weight": draw(RANK, 8),
            f"{q}.lora_up.weight": draw(8, RANK),
            f"{q}.dora_scale": draw(8, 1).abs() + 0.5,
        },
        "loha": {f"{k}.hada_w{i}_{side}": draw(*s) for i in (1, 2) for side, s in (("a", (8, RANK)), ("b", (RANK, 8)))},
        "lokr": {f"{q}.lokr_w1": draw(2, 2), f"{q}.lokr_w2": draw(4, 4), f"{k}.lokr_w1": draw(2, 2), f"{k}.lokr_w2": draw(4, 4)},
        "ia3": {f"{k}.weight": draw(8), f"{k}.on_input": torch.tensor(1)},
        "glora": {f"{q}.{n}.weight": draw(*s) for n, s in {"a1": (8, 2), "a2": (2, 8), "b1": (8, 2), "b2": (2, 8)}.items()},
        "oft": {f"{q}.oft_blocks": draw(2, 4, 4), f"{q}.alpha": torch.tensor(0.0)},
        "boft": {f"{k}.oft_blocks": draw(2, 4, 2, 2), f"{k}.rescale": draw(8, 1).abs() + 0.5},
        "full": {f"{conv}.diff": draw(8, 4, 3, 3), f"{conv}.diff_b": draw(8)},
        "norm": {f"{norm}.w_norm": draw(8), f"{norm}.b_norm": draw(8)},
    }  # fmt: skip
    for name, tensors in made.items():
        save_file(tensors, folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in made}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    return _files(tmp_path_factory.mktemp("adapters"))


class Rig:
    """A net bound to a bundle, with every adapter loaded. `stored`: in what it has its matrices; its values are always float8's."""

    def __init__(
        self,
        files: Mapping[str, Path],
        dtype: torch.dtype,
        stable: bool,
        stored: torch.dtype | None = None,
        scale: float = 1.0,
    ) -> None:
        torch.manual_seed(1)
        self.net = Net().to(dtype).requires_grad_(False)
        tensors = {
            f"unet.{name}": p.detach().to(torch.float8_e4m3fn).to(dtype) for name, p in self.net.named_parameters()
        }
        narrow = {name for name, t in tensors.items() if stored and t.dim() > 1}
        tensors = {name: (t / scale).to(stored) if name in narrow else t for name, t in tensors.items()}
        self.bundle = Bundle("net", CPU, dtype, tensors, dict.fromkeys(narrow, scale))
        self.slots = {}
        for name, parameter in self.net.named_parameters():
            parameter.data = tensors[f"unet.{name}"]
            self.slots[f"unet.{name}"] = Slot(self.net.get_submodule(name.rpartition(".")[0]), parameter)
        for module in self.net.modules():
            widen_when_read(module, dtype, scale)
        self.wearer = Wearer(self.bundle, self.slots, stable=stable)
        self.factors: dict[str, Factors] = {
            name: load_factors(path, self.bundle.shapes, CPU) for name, path in files.items()
        }

    def wear(self, worn: Mapping[str, float], merged: bool = True) -> None:
        self.wearer.wear({name: (self.factors[name], Strength(w, w)) for name, w in worn.items()}, merged=merged)

    def runs(self) -> Tensor:
        x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(2))
        return self.net(x.to(self.bundle.dtype))

    def values(self) -> dict[str, Tensor]:
        return {name: slot.parameter.data.clone() for name, slot in self.slots.items()}


NAMES = ["lora", "locon", "dora", "loha", "lokr", "ia3", "glora", "oft", "boft", "full", "norm"]
SETS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([-0.7, 0.0, 0.35, 1.0]), max_size=4)


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(SETS, st.booleans()), min_size=1, max_size=6))
def test_after_any_sequence_the_base_is_bit_for_bit_what_it_was(files, dtype, stable, steps):
    rig = Rig(files, dtype, stable)
    before, plain = rig.bundle.fingerprint(), rig.runs()
    for worn, merged in steps:
        rig.wear(worn, merged)
        made = rig.values()
        fresh = Rig(files, dtype, stable=False)
        fresh.wear(worn, merged)
        assert all(torch.equal(made[name], tensor) for name, tensor in fresh.values().items())  # whatever came before
        assert rig.bundle.fingerprint() == before
    rig.wear({})
    assert torch.equal(rig.runs(), plain)
    assert all(torch.equal(tensor, rig.bundle.tensors[name]) for name, tensor in rig.values().items())
    if not stable:
        rig.wearer.release()
        assert rig.wearer.nbytes == 0
        assert all(s.parameter.data_ptr() == rig.bundle.tensors[name].data_ptr() for name, s in rig.slots.items())


@given(worn=SETS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_beside_the_model_as_merged_into_it(files, worn):
    rig = Rig(files, torch.float32, stable=False)
    rig.wear(worn)
    merged = rig.runs()
    rig.wear(worn, merged=False)
    torch.testing.assert_close(rig.runs(), merged, rtol=1e-4, atol=1e-5)
    assert rig.slots["unet.to_q.weight"].parameter.data_ptr() == rig.bundle.tensors["unet.to_q.weight"].data_ptr()


@pytest.mark.parametrize("scale", [1.0, 0.25])
@given(worn=SETS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_on_a_narrow_base_as_on_the_widened_one(files, scale, worn):
    """What is narrow stays so, at its address, whatever is worn; the rest is patched."""
    wide = Rig(files, torch.float32, stable=False)
    rig = Rig(files, torch.float32, stable=False, stored=torch.float8_e4m3fn, scale=scale)
    before = rig.bundle.fingerprint()
    assert torch.equal(rig.runs(), wide.runs())
    wide.wear(worn)
    needed = rig.wearer.needs({name: (rig.factors[name], Strength(w, w)) for name, w in worn.items()})
    rig.wear(worn)
    torch.testing.assert_close(rig.runs(), wide.runs(), rtol=1e-4, atol=1e-5)
    assert rig.wearer.nbytes == needed
    for name, slot in rig.slots.items():
        if name.endswith("weight") and "norm" not in name:
            assert slot.parameter.data_ptr() == rig.bundle.tensors[name].data_ptr()
    assert rig.bundle.fingerprint() == before


@pytest.mark.parametrize("order", [["lora", "lokr"], ["lokr", "lora"]])
def test_the_same_set_again_does_nothing_whatever_its_order(files, monkeypatch, order):
    rig = Rig(files, torch.float32, stable=False)
    rig.wear({"lora": 0.5, "lokr": 0.25})
    monkeypatch.setattr(overlays, "overlay", lambda *_: pytest.fail("made again"))
    rig.wear({name: {"lora": 0.5, "lokr": 0.25}[name] for name in order})
    rig.wear({"lora": 0.5, "lokr": 0.25, "ia3": 0.0})


def test_the_set_that_was_taken_off_goes_on_again_without_being_made(files, monkeypatch):
    """Until its memory is written to, or released."""
    rig = Rig(files, torch.float32, stable=False)
    rig.wear({"locon": 0.5})
    made, count = rig.values(), Mock(side_effect=overlays.overlay)
    monkeypatch.setattr(overlays, "overlay", count)

    def as_the_first_time(*others, made_anew):
        for worn in others:
            rig.wear(worn)
        count.reset_mock()
        rig.wear({"locon": 0.5})
        assert all(torch.equal(made[name], tensor) for name, tensor in rig.values().items())
        assert count.call_count == made_anew

    as_the_first_time({}, made_anew=0)
    as_the_first_time({"locon": 0.0}, made_anew=0)
    as_the_first_time({}, {"locon": 0.4}, {}, made_anew=1)
    as_the_first_time({"lora": 1.0}, {}, made_anew=1)
    rig.wear({})
    rig.wearer.release()
    as_the_first_time(made_anew=1)


def test_what_a_failure_left_half_written_is_made_anew(files, monkeypatch):
    rig = Rig(files, torch.float32, stable=False)
    rig.wear({"locon": 0.5})
    made = {name: tensor.clone() for name, tensor in rig.values().items()}

    def fails(bundle, work, memory):
        for tensor in memory.values():
            tensor.zero_()
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(overlays, "overlay", fails)
        with pytest.raises(MemoryError):
            rig.wear({"locon": 0.4})
    rig.wear({"locon": 0.5})
    assert all(torch.equal(made[name], tensor) for name, tensor in rig.values().items())


def test_stable_addresses(files):
    """A compiled graph reads a weight where it was first patched, whatever is worn, and though nothing is."""
    rig = Rig(files, torch.float32, stable=True)
    rig.wear({"lora": 1.0})
    address = {name: slot.parameter.data_ptr() for name, slot in rig.slots.items()}
    for worn in ({"lora": 0.3}, {"lokr": 1.0}, {}, {"dora": -0.5, "lora": 0.2}):
        rig.wear(worn)
        assert rig.slots["unet.to_q.weight"].parameter.data_ptr() == address["unet.to_q.weight"]
    assert address["unet.to_q.weight"] != rig.bundle.tensors["unet.to_q.weight"].data_ptr()


def test_an_overlay_uses_the_last_one_s_memory_until_that_is_released(files):
    """Fresh memory takes as long as the overlay itself."""
    rig = Rig(files, torch.float32, stable=False)
    rig.wear({"locon": 1.0})
    address, size = rig.slots["unet.conv1.weight"].parameter.data_ptr(), rig.wearer.nbytes
    for worn in ({"locon": 0.5}, {"full": 1.0}, {}):
        rig.wear(worn)
        assert rig.wearer.nbytes == rig.wearer.needs({}) >= size
    rig.wear({"locon": 0.3})
    assert rig.slots["unet.conv1.weight"].parameter.data_ptr() == address
    rig.wear({})
    assert rig.wearer.release() >= size
    assert (rig.wearer.nbytes, rig.wearer.release()) == (0, 0)


def test_a_failure_half_way_leaves_the_base(files, monkeypatch):
    rig = Rig(files, torch.float32, stable=False)
    plain = rig.runs()
    rig.wear({"lora": 1.0})
    monkeypatch.setattr(overlays, "overlay", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        rig.wear({"locon": 1.0})
    assert torch.equal(rig.runs(), plain)


@pytest.mark.parametrize("algorithm", ["lora", "ia3"])
def test_a_narrow_weight_that_has_to_be_patched_counts_with_its_scale(tmp_path, algorithm):
    """An embedding, which nothing can run beside."""
    narrow = torch.randn(8, 8).to(torch.float8_e4m3fn)
    bundle = Bundle("narrow", CPU, torch.float32, {"unet.to_q.weight": narrow}, {"unet.to_q.weight": 0.25})
    files = _files(tmp_path)
    file = files["lora"]
    if algorithm == "ia3":
        file = tmp_path / "ia3_q.safetensors"
        save_file({"lora_unet_to_q.weight": torch.ones(8), "lora_unet_to_q.on_input": torch.tensor(1)}, file)
    factors = load_factors(file, bundle.shapes, CPU)
    wide = Bundle("wide", CPU, torch.float32, {"unet.to_q.weight": narrow.float() * 0.25})
    made, expected = (overlays.overlay(b, work_on([(factors, Strength(0.5, 0.5))]), {}) for b in (bundle, wide))
    torch.testing.assert_close(made["unet.to_q.weight"], expected["unet.to_q.weight"])


class _Launches(TorchDispatchMode):
    """Counts what a GPU would be sent: all but views."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not function.is_view and function.name() not in ("aten::unbind.int", "aten::detach"):
            self.names.append(function.name())
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("worn", "launches"), [(("a",), 1), (("a", "b"), 5)])
@pytest.mark.parametrize("count", [3, 40])
def test_a_set_is_put_on_in_one_launch_a_shape_however_many_layers_have_it(
    tmp_path, monkeypatch, worn, launches, count
):
    """With two adapters each is scaled, and their factors are concatenated. Nothing is gathered, so no bound on that counts."""
    monkeypatch.setattr(overlays, "BATCH_BYTES", 1)
    tensors = {f"unet.l{i:02}.to_q.weight": torch.randn(8, 6) for i in range(count)}
    bundle = Bundle("many", CPU, torch.float32, tensors).to(CPU)  # into one allocation, as on a GPU
    factors = {}
    for name, rank in (("a", 2), ("b", 3)):
        stored = {
            f"lora_unet_l{i:02}_to_q.lora_{part}.weight": torch.randn(shape)
            for i in range(count)
            for part, shape in (("down", (rank, 6)), ("up", (8, rank)))
        }
        save_file(stored, tmp_path / f"{name}.safetensors")
        factors[name] = load_factors(tmp_path / f"{name}.safetensors", bundle.shapes, CPU, stacked=True)
    chosen = {name: (factors[name], Strength(0.5, 0.5)) for name in worn}
    one_by_one = overlays.overlay(bundle, work_on(list(chosen.values())), {})
    with _Launches() as sent:
        together = overlays.overlay(bundle, work_on(list(chosen.values())), {}, batched=True)
        again = overlays.overlay(bundle, work_on(list(chosen.values())), together, batched=True)
    assert len(sent.names) == 2 * launches, sent.names
    assert all(again[name].data_ptr() == tensor.data_ptr() for name, tensor in together.items())
    assert len(together) == count
    for name, tensor in together.items():
        torch.testing.assert_close(tensor, one_by_one[name], rtol=1e-5, atol=1e-6)


def test_bfloat16_is_added_up_in_float32_and_rounded_once(tmp_path):
    tensors = {"unet.to_q.weight": torch.randn(96, 160, dtype=torch.bfloat16)}
    bundle = Bundle("half", CPU, torch.bfloat16, tensors)
    up, down = torch.randn(96, 16, dtype=torch.bfloat16), torch.randn(16, 160, dtype=torch.bfloat16)
    save_file(
        {"lora_unet_to_q.lora_up.weight": up, "lora_unet_to_q.lora_down.weight": down}, tmp_path / "a.safetensors"
    )
    factors = load_factors(tmp_path / "a.safetensors", bundle.shapes, CPU)
    made = overlays.overlay(bundle, work_on([(factors, Strength(0.5, 0.5))]), {})["unet.to_q.weight"]
    exact = tensors["unet.to_q.weight"].double() + 0.5 * (up.double() @ down.double())
    half_a_unit = torch.exp2(exact.abs().log2().floor() - 8)
    assert ((made.double() - exact).abs() <= half_a_unit * 1.01).all()
