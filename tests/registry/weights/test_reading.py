"""Bytes of files into one allocation, converted on the way, with little memory beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from registry.errors import UnusableFile
from registry.weights import reading
from registry.weights.bundle import load_bundle
from registry.weights.reading import Move, read

CPU = torch.device("cpu")


def _write(path: Path, tensor: torch.Tensor, before: int = 0) -> Path:
    path.write_bytes(b"x" * before + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return path


@pytest.mark.parametrize("block", [64, 1000, 2**24])
@pytest.mark.parametrize("before", [0, 8, 3])
def test_every_element_arrives(tmp_path: Path, monkeypatch, block, before):
    monkeypatch.setattr(reading, "BLOCK_BYTES", block)
    values = torch.randn(5000, dtype=torch.float16)
    path = _write(tmp_path / "a", values, before)
    other = _write(tmp_path / "b", torch.arange(77, dtype=torch.float32))
    whole = torch.zeros(5000 + 77)
    at = before + 2 * 1200
    read(
        [
            Move(path, before, torch.float16, 1200, whole[:1200]),
            Move(other, 0, torch.float32, 77, whole[5000:]),
            Move(path, at, torch.float16, 3800, whole[1200:5000]),
        ],
        CPU,
    )
    assert torch.equal(whole[:5000], values.float())
    assert torch.equal(whole[5000:], torch.arange(77.0))


def test_transposed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 64)
    values = torch.randn(30, 7)
    to = torch.empty(210)
    read([Move(_write(tmp_path / "a", values), 0, torch.float32, 210, to, columns=7)], CPU)
    assert torch.equal(to.view(7, 30), values.T)


def test_a_file_that_ends_early_is_an_error_and_the_next_load_works(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 64)
    path = _write(tmp_path / "a", torch.arange(500.0))
    to = torch.empty(600)
    for _ in range(reading.BLOCKS):
        with pytest.raises(UnusableFile, match="ends before"):
            read([Move(path, 0, torch.float32, 600, to)], CPU)
    read([Move(path, 0, torch.float32, 500, to[:500])], CPU)
    assert torch.equal(to[:500], torch.arange(500.0))


def test_a_converted_bundle_is_one_allocation_and_a_mapped_one_none(tmp_path: Path):
    folder = tmp_path / "unet"
    folder.mkdir()
    tensors = {f"block.{i}.weight": torch.randn(64, 32) for i in range(5)} | {"norm.bias": torch.randn(7)}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    mapped = load_bundle(tmp_path, "a", CPU, torch.float32)
    converted = load_bundle(tmp_path, "a", CPU, torch.bfloat16)
    assert len({tensor.untyped_storage().data_ptr() for tensor in converted.tensors.values()}) == 1
    for name, tensor in tensors.items():
        assert torch.equal(mapped.tensors[f"unet.{name}"], tensor)
        assert torch.equal(converted.tensors[f"unet.{name}"], tensor.bfloat16())
    assert str(folder) in Path("/proc/self/maps").read_text()


def test_a_file_that_others_may_write_to_is_read_and_not_mapped(tmp_path: Path):
    (tmp_path / "unet").mkdir()
    path = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    save_file({"norm.bias": torch.arange(7.0)}, path)
    bundle = load_bundle(tmp_path, "a", CPU, torch.float32, mapped=False)
    path.write_bytes(b"")  # in place: of a mapped file this would end the process
    assert torch.equal(bundle.tensors["unet.norm.bias"], torch.arange(7.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "dtype", "mapped", "model"),
    [("cpu", "bfloat16", True, 300), ("cpu", "float32", False, 600), ("meta", "float32", False, 0)],
    ids=["converted", "somebody else's file", "to a device with memory of its own"],
)
def test_loading_takes_little_more_than_the_model(tmp_path: Path, device: str, dtype: str, mapped: bool, model: int):
    """A float32 file of 600 MiB: a load that maps it and converts it takes 900 MiB at its peak. `model`: MiB of the host."""
    folder = tmp_path / "unet"
    folder.mkdir()
    save_file(
        {f"block.{i}.weight": torch.full((4, 1024, 1280), float(i)) for i in range(30)},
        folder / "diffusion_pytorch_model.safetensors",
    )
    code = f"""
import re, torch
from pathlib import Path
from registry.weights.bundle import load_bundle
status = lambda field: int(re.search(field + ":[^0-9]+([0-9]+)", Path("/proc/self/status").read_text())[1]) * 1024
Path("/proc/self/clear_refs").write_text("5")  # the peak from here on; getrusage's began with the parent process
before = status("VmRSS")
bundle = load_bundle(Path({str(tmp_path)!r}), "a", torch.device({device!r}), torch.{dtype}, mapped={mapped})
print(sum(t.nbytes for t in bundle.tensors.values() if t.device.type == "cpu"), status("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    held, grown = map(int, done.stdout.split())
    assert held == model * 2**20
    assert held * 0.95 < grown < held + 256 * 2**20


def test_a_load_that_memory_ended_holds_up_no_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.arange(64 * reading.BLOCKS, dtype=torch.float32)
    path, whole = _write(tmp_path / "a", values), torch.zeros_like(values)
    moves = [Move(path, at * 256, torch.float32, 64, whole[at * 64 : (at + 1) * 64]) for at in range(reading.BLOCKS)]
    monkeypatch.setattr(reading, "BLOCK_BYTES", 256)
    reading._ring.cache_clear()

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as no_memory:
        no_memory.setattr(reading.torch, "empty", fail)
        with pytest.raises(MemoryError):
            read(moves, CPU)
    read(moves, CPU)
    assert torch.equal(whole, values)
