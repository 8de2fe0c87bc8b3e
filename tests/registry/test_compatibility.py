"""An adapter fits a checkpoint if every one of its tensors has a place there, and every shape agrees."""

from __future__ import annotations

from pathlib import Path

import pytest

from probes import Header, TensorSpec
from registry.compatibility import Fit, check_fit, checkpoint_tensors
from registry.errors import FileMissing, NotGenerable, UnusableFile
from tests.registry.tiny import ATTENTION, EVERYTHING, TEXT_ENCODER, Tiny, lora


def _header(tensors) -> Header:
    return Header({name: TensorSpec("F32", tuple(tensor.shape)) for name, tensor in tensors.items()})


@pytest.fixture(scope="module")
def checkpoint(tiny: Tiny):
    return checkpoint_tensors(tiny.folder)


def test_a_folder_and_its_single_file_have_the_same_tensors(tiny: Tiny, checkpoint):
    assert checkpoint_tensors(tiny.single) == checkpoint
    assert {name: spec.shape for name, spec in checkpoint.items()} == {
        name: tuple(t.shape) for name, t in tiny.tensors.items()
    }


@pytest.mark.parametrize("layout", ["kohya", "kohya-ldm", "kohya-lycoris", "diffusers", "peft"])
def test_what_was_made_for_the_checkpoint_fits_it(tiny: Tiny, checkpoint, layout):
    adapter = _header(lora(tiny.tensors, EVERYTHING, layout=layout, alpha=1.0 if layout.startswith("kohya") else None))
    fit = check_fit(adapter, checkpoint)
    assert fit == Fit(True, fit.reason, len(adapter.tensors), len(adapter.tensors))
    assert f"all {len(adapter.tensors)} tensors fit" in fit.reason


def test_linear_layers_and_1x1_convolutions_are_interchangeable(checkpoint):
    conv = "unet.down_blocks.0.attentions.0.proj_in"  # 16 -> 16, a 1x1 convolution in SD 1
    linear = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    for module, tail in ((conv, ()), (linear, (1, 1))):
        parts = {
            f"{module}.lora_A.weight": TensorSpec("F16", (2, 16, *tail)),
            f"{module}.lora_B.weight": TensorSpec("F16", (16, 2, *tail)),
        }
        assert check_fit(Header(parts), checkpoint).fits


KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"  # 24 -> 16


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (
            {"lora_down.weight": (4, 768), "lora_up.weight": (320, 4), "alpha": ()},  # a real SD 1.5 LoRA
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k wants 768 -> 320, the checkpoint has 24 -> 16",
        ),
        (
            {"lora_down.weight": (4, 24), "lora_up.weight": (16, 8)},
            "parts that do not fit each other (down [4, 24], up [16, 8])",
        ),
        ({"lora_down.weight": (4, 24)}, "has no up part beside it"),
        ({"alpha": ()}, "has no down part beside it"),
        ({"lora_down.weight": (4, 24), "lora_up.weight": (16, 4), "alpha": (2,)}, "alpha must be one number, not [2]"),
        (
            {"lora_down.weight": (4, 24, 3, 3), "lora_up.weight": (16, 4, 1, 1)},
            "wants 24 -> 16 (3x3 convolution), the checkpoint has 24 -> 16",
        ),
        (
            {"lora_down.weight": (4, 24), "lora_up.weight": (16, 4), "lora_mid.weight": (4, 4, 3, 3)},
            "wants 24 -> 16 (3x3 convolution)",
        ),
        (
            {"lora_down.weight": (4, 24), "lora_up.weight": (16, 4), "dora_scale": (1, 23)},
            "[1, 23] is no magnitude of 24 -> 16",
        ),
        ({"hada_w1_a": (16, 4), "hada_w1_b": (4, 24)}, "has no hada_w2_a part beside it"),
        (
            {"hada_w1_a": (16, 4), "hada_w1_b": (4, 24), "hada_w2_a": (16, 4), "hada_w2_b": (4, 25)},
            "parts that do not fit each other (hada_w1_a [16, 4]",
        ),
        ({"lokr_w1": (4, 4), "lokr_w2": (4, 5)}, "wants 20 -> 16, the checkpoint has 24 -> 16"),
        ({"lokr_w1": (4, 4), "lokr_w2_a": (4, 2), "lokr_w2_b": (3, 6)}, "parts that do not fit each other"),
        ({"lora_down.weight": (4, 24), "lora_up.weight": (16, 4), "lokr_w1": (4, 4)}, "is no part of LoRA"),
        ({"weight": (17,), "on_input": ()}, "wants 24 -> 17"),
        ({"oft_blocks": (4, 5, 5)}, "wants 24 -> 20"),
        ({"oft_blocks": (4, 4, 5)}, "parts that do not fit each other (oft_blocks [4, 4, 5])"),
        (
            {"a1.weight": (24, 4), "a2.weight": (4, 24), "b1.weight": (17, 4), "b2.weight": (4, 24)},
            "do not fit each other",
        ),
        ({"diff": (16, 23)}, "wants 23 -> 16"),
        ({"diff": (16, 24), "diff_b": (16,)}, "the checkpoint's layer has no bias"),
        ({"diff_b": (16,)}, "the checkpoint's layer has no bias"),
        ({"lora_down.weight": (), "lora_up.weight": (4,)}, "parts that do not fit each other"),
        ({"weight": (16, 24)}, "is no part of an adapter"),
    ],
)
def test_what_does_not_fit_is_named(checkpoint, shapes, said):
    fit = check_fit(Header({f"{KEY}.{part}": TensorSpec("F32", shape) for part, shape in shapes.items()}), checkpoint)
    assert not fit.fits
    assert said in fit.reason
    assert {problem.tensor for problem in fit.problems} <= {f"{KEY}.{part}" for part in shapes}
    assert fit.matched == fit.total - len({problem.tensor for problem in fit.problems})


def test_one_orphan_among_many_is_enough(tiny: Tiny, checkpoint):
    tensors = dict(_header(lora(tiny.tensors, f"{ATTENTION}|{TEXT_ENCODER}", layout="kohya")).tensors)
    stray = "lora_unet_down_blocks_7_attentions_0_proj_in.lora_down.weight"
    fit = check_fit(Header({**tensors, stray: TensorSpec("F32", (4, 16))}), checkpoint)
    assert (fit.fits, fit.matched, fit.total) == (False, len(tensors), len(tensors) + 1)
    layer = stray.removesuffix(".lora_down.weight")
    assert fit.reason == f"1 of {fit.total} tensors do not fit: the checkpoint has no layer {layer}"


def test_the_same_part_twice_does_not_fit(checkpoint):
    twice = {f"{KEY}.lora_down.weight": (4, 24), f"{KEY}.lora_up.weight": (16, 4)}
    other = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight"
    fit = check_fit(
        Header({name: TensorSpec("F32", shape) for name, shape in {**twice, other: (4, 24)}.items()}), checkpoint
    )
    assert not fit.fits
    assert "second down part" in fit.reason


def test_many_misfits_are_counted_and_a_few_named(tiny: Tiny, checkpoint):
    wide = {
        name: TensorSpec("F32", (spec.shape[0] + 1, *spec.shape[1:]))
        for name, spec in _header(lora(tiny.tensors, ATTENTION, layout="kohya")).tensors.items()
    }
    fit = check_fit(Header(wide), checkpoint)
    assert fit.matched == 0
    assert fit.reason.count("wants") == 3
    assert fit.reason.endswith("more")
    assert len(fit.problems) == fit.total


def test_a_file_with_nothing_in_it_does_not_fit(checkpoint):
    assert not check_fit(Header({}), checkpoint).fits


def test_bad_checkpoints(tmp_path: Path):
    with pytest.raises(FileMissing):
        checkpoint_tensors(tmp_path / "gone.safetensors")
    page = tmp_path / "page.safetensors"
    page.write_text("<html>not found</html>")
    with pytest.raises(UnusableFile, match=r"page\.safetensors"):
        checkpoint_tensors(page)
    import torch
    from safetensors.torch import save_file

    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2)}, tmp_path / "flux.safetensors")
    with pytest.raises(NotGenerable, match="no layout that is known"):
        checkpoint_tensors(tmp_path / "flux.safetensors")
