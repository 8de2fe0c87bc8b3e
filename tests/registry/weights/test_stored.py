"""A safetensors file's tensors, mapped or read into one allocation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from registry.weights.stored import DTYPES, Stored

CPU = torch.device("cpu")


@pytest.mark.parametrize("mapped", [True, False])
def test_every_tensor_is_the_file_s(tmp_path: Path, mapped: bool) -> None:
    tensors = {name: torch.arange(6.0).view(2, 3).to(dtype) for name, dtype in DTYPES.items()}
    tensors |= {"alpha": torch.tensor(8.0), "on_input": torch.tensor(True), "odd": torch.ones(3, dtype=torch.uint8)}
    path = tmp_path / "all.safetensors"
    save_file(tensors, path, {"note": "a header of some length"})
    stored = Stored(path, CPU, mapped=mapped)
    for name, tensor in tensors.items():
        assert stored.tensor(name).dtype == tensor.dtype
        assert torch.equal(stored.tensor(name).flatten().view(torch.uint8), tensor.flatten().view(torch.uint8))
    numbers = stored.numbers(["alpha", "on_input"])
    assert numbers["alpha"].item() == 8.0
    assert bool(numbers["on_input"])
    big = [stored.tensor(name) for name in ("F64", "F32")]
    one = {tensor.untyped_storage().data_ptr() for tensor in big}
    assert len(one) == 1


def test_tensors_that_do_not_lie_as_elements_must_are_copied(tmp_path: Path) -> None:
    """Some writers pad neither the header nor the tensors before."""
    header = (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}}'
    )
    values = torch.tensor([1.5, -2.0])
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\1" + values.numpy().tobytes())
    for mapped in (True, False):
        assert torch.equal(Stored(path, CPU, mapped=mapped).tensor("b"), values)


def test_the_file_s_own_bytes_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(4)}, path)
    path.chmod(0o444)
    before = path.read_bytes()
    Stored(path, CPU, mapped=True).tensor("a").fill_(1.0)
    assert path.read_bytes() == before


def test_numbers_are_on_the_cpu_wherever_the_tensors_are(tmp_path: Path) -> None:
    save_file({"a": torch.randn(5, 5), "alpha": torch.tensor(0.5)}, tmp_path / "a.safetensors")
    stored = Stored(tmp_path / "a.safetensors", torch.device("meta"), mapped=False)
    assert stored.tensor("a").device.type == "meta"
    assert stored.numbers(["alpha"])["alpha"].item() == 0.5
