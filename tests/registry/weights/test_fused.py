"""The one-pass patch against torch's own operations; where there is no C compiler, only that nothing is missing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from registry.weights import fused as module
from registry.weights.adapters import Factors, Layer, Strength
from registry.weights.bundle import Bundle
from registry.weights.fused import Fused, fused, takes
from registry.weights.overlay import overlay
from registry.weights.work import work_on


@pytest.fixture
def compiled() -> Fused:
    add = fused(torch.float32)
    if add is None:
        pytest.skip("no C compiler, or a CPU without AVX2")
    return add


@pytest.fixture
def afresh() -> Iterator[None]:
    """As a process that has not asked yet."""
    fused.cache_clear()
    yield
    fused.cache_clear()


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 5], indirect=True)
@pytest.mark.parametrize("rank", [1, 16, 96, 1000])
@pytest.mark.parametrize("shape", [(7, 16), (320, 320), (1283, 768), (2, 65552), (1029, 1040), (1280, 2560)])
def test_it_is_the_base_and_the_product(compiled: Fused, threads, rank: int, shape: tuple[int, int]):
    torch.manual_seed(0)
    rows, columns = shape
    base, up, down = torch.randn(shape), torch.randn(rows, rank) / rank, torch.randn(rank, columns)
    before = base.clone()
    room = torch.full((rows + 2, columns), 7.0)
    out = room[:rows]
    assert takes(base, rank, out)
    compiled(base, up, down, -0.7, out)
    torch.testing.assert_close(out, torch.addmm(base, up, down, alpha=-0.7), rtol=1e-5, atol=1e-6)
    assert torch.equal(base, before)
    assert (room[rows:] == 7).all()  # nothing is written beyond


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32_and_rounded_once(dtype: torch.dtype):
    if (add := fused(dtype)) is None:
        pytest.skip("no C compiler, or a CPU without AVX-512")
    torch.manual_seed(0)
    base, up, down = torch.randn(1283, 784).to(dtype), torch.randn(1283, 16), torch.randn(16, 784)
    out = torch.empty_like(base)
    assert takes(base, 16, out)
    add(base, up, down, 0.3, out)
    exact = base.double() + 0.3 * (up.double() @ down.double())
    half_a_step = torch.finfo(dtype).eps / 2 * exact.abs()
    assert ((out.double() - exact).abs() <= half_a_step * 1.001 + 1e-5).all()
    add(base, torch.zeros_like(up), down, 1.0, out)
    assert torch.equal(out, base)
    for bits in (0x7FFFFFFF, -1):  # NaNs whose rounding would carry
        add(base, torch.full_like(up, bits, dtype=torch.int32).view(torch.float32), down, 1.0, out)
        assert out.isnan().all()


def test_a_base_or_result_that_it_cannot_work_on_is_left_to_torch():
    base = torch.zeros(512, 512)
    assert takes(base, 1, torch.empty(512, 512))
    assert not takes(base, 0, torch.empty(512, 512))
    assert not takes(base, 1, torch.empty(512 * 512 + 1)[1:].view(512, 512))  # streams go to whole lines of the cache
    assert not takes(base.T, 1, torch.empty(512, 512))
    assert not takes(base.half(), 1, torch.empty(512, 512))
    assert not takes(torch.zeros(4096, 36), 1, torch.empty(4096, 36))


def test_an_overlay_is_the_same_with_and_without_it(compiled: Fused, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    tensors = {"unet.a.weight": torch.randn(512, 320), "unet.b.weight": torch.randn(96, 112, 3, 3)}
    bundle = Bundle("base", torch.device("cpu"), torch.float32, tensors)
    sets = [
        Factors(
            {
                (name,): Layer(
                    "LoRA", {"up": torch.randn(len(t), rank).half(), "down": torch.randn(rank, t[0].numel())}
                )
                for name, t in tensors.items()
            }
        )
        for rank in (4, 16)
    ]
    work = work_on([(factors, Strength(weight, 1.0)) for factors, weight in zip(sets, (0.5, -1.0), strict=True)])
    made = overlay(bundle, work, {})
    monkeypatch.setattr("registry.weights.overlay.fused", lambda dtype: None)
    for name, tensor in overlay(bundle, work, {}).items():
        assert made[name].shape == tensor.shape
        torch.testing.assert_close(made[name], tensor, rtol=1e-5, atol=1e-5)


def test_without_a_compiler_there_is_none(afresh, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "COMPILERS", ("no-such-compiler",))
    assert fused(torch.float32) is None


def test_a_compiler_that_fails_is_told_of(
    compiled: Fused, afresh, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "wrong.c").write_text("this is not C")
    monkeypatch.setattr(module, "SOURCE", tmp_path / "wrong.c")
    with caplog.at_level(logging.WARNING):
        assert fused(torch.float32) is None
    assert "does not compile wrong.c" in caplog.text


@pytest.fixture
def kept(compiled: Fused, afresh, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What a copy of the source was compiled to, by a process before this one."""
    source = tmp_path / "fused.c"
    source.write_bytes(module.SOURCE.read_bytes())
    monkeypatch.setattr(module, "SOURCE", source)
    assert fused(torch.float32) is not None
    fused.cache_clear()
    (made,) = (tmp_path / "__pycache__").iterdir()
    return made


def test_what_was_compiled_is_kept_beside_the_bytecode(kept: Path, monkeypatch: pytest.MonkeyPatch):
    assert kept.suffix == ".so"
    monkeypatch.setattr(module.subprocess, "run", pytest.fail)
    assert fused(torch.float32) is not None


def test_what_was_kept_and_is_damaged_is_compiled_anew(kept: Path):
    kept.unlink()  # its pages are still mapped
    kept.write_bytes(b"")
    assert fused(torch.float32) is not None
    assert kept.stat().st_size > 0
