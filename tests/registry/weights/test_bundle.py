"""A bundle is a checkpoint's tensors, whatever the file's layout, and never changes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from registry.errors import FileMissing, NotGenerable, UnusableFile
from registry.weights.bundle import Bundle, bundle_bytes, load_bundle
from tests.registry.tiny import Tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bundle(tiny: Tiny) -> Bundle:
    return load_bundle(tiny.folder, "folder", CPU, torch.float32)


def test_a_folder_and_a_single_file_give_the_same_tensors(tiny: Tiny, bundle: Bundle):
    single = load_bundle(tiny.single, "single", CPU, torch.float32)
    assert bundle.tensors.keys() == single.tensors.keys() == tiny.tensors.keys()
    assert all(torch.equal(tensor, tiny.tensors[name]) for name, tensor in bundle.tensors.items())
    assert bundle.fingerprint() == single.fingerprint()
    assert bundle.structure == single.structure


def test_open_clip_s_fused_and_transposed_tensors(tmp_path):
    fused, projection = torch.randn(9, 3), torch.randn(3, 5)
    prefix = "conditioner.embedders.1.model."
    stored = {f"{prefix}transformer.resblocks.0.attn.in_proj_weight": fused, f"{prefix}text_projection": projection}
    save_file(stored, tmp_path / "clip.safetensors")
    tensors = load_bundle(tmp_path / "clip.safetensors", "clip", CPU, torch.float32).tensors
    layer = "text_encoder_2.text_model.encoder.layers.0.self_attn"
    assert torch.equal(torch.cat([tensors[f"{layer}.{qkv}_proj.weight"] for qkv in "qkv"]), fused)
    assert torch.equal(tensors["text_encoder_2.text_projection.weight"], projection.T)
    assert all(tensor.is_contiguous() for tensor in tensors.values())


def test_the_dtype_is_the_one_asked_for(tiny: Tiny, bundle: Bundle):
    half = load_bundle(tiny.folder, "folder", CPU, torch.float16)
    assert {tensor.dtype for tensor in half.tensors.values()} == {torch.float16}
    assert half.fingerprint() != bundle.fingerprint()
    assert half.structure == bundle.structure


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_its_size_is_known_before_it_is_loaded(tiny: Tiny, dtype):
    tensors = load_bundle(tiny.single, "single", CPU, dtype).tensors
    assert bundle_bytes(tiny.single, dtype) == sum(tensor.nbytes for tensor in tensors.values())


def test_it_cannot_be_rebound(bundle: Bundle):
    with pytest.raises(TypeError):
        bundle.tensors["unet.conv_in.weight"] = torch.zeros(1)  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        bundle.digest = "other"  # type: ignore[misc]


def test_the_fingerprint_sees_one_changed_bit(tiny: Tiny):
    bundle = load_bundle(tiny.folder, "folder", CPU, torch.float32)
    before = bundle.fingerprint()
    victim = bundle.tensors["unet.conv_in.weight"].view(torch.int32).view(-1)
    victim[5] ^= 1
    assert bundle.fingerprint() != before
    victim[5] ^= 1
    assert bundle.fingerprint() == before


@pytest.mark.parametrize("read", [5, 300, 484])
def test_a_file_that_goes_while_it_is_read_is_named(tiny: Tiny, tmp_path: Path, read: int):
    """Whoever lends components to a model is not in use itself, and may be deleted."""
    folder = Path(shutil.copytree(tiny.folder, tmp_path / "going"))
    left = iter(range(read))

    def go_on() -> None:
        if next(left, None) is None and folder.exists():
            shutil.rmtree(folder)

    with pytest.raises(FileMissing, match=r"safetensors was moved or deleted while it was read"):
        load_bundle(folder, "going", torch.device("cpu"), torch.float16, go_on=go_on)


def test_bad_files(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(UnusableFile, match=r"cut\.safetensors"):
        load_bundle(tmp_path / "cut.safetensors", "cut", CPU, torch.float32)
    (tmp_path / "model.ckpt").write_bytes(b"PK")
    with pytest.raises(NotGenerable, match="not a safetensors file"):
        load_bundle(tmp_path / "model.ckpt", "ckpt", CPU, torch.float32)
    save_file({"nothing.known": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(NotGenerable, match="no layout that is known"):
        load_bundle(tmp_path / "other.safetensors", "other", CPU, torch.float32)
