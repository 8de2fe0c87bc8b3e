"""Every layout's names mean one canonical name; diffusers' own converters are the reference."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from registry.weights.modules import place
from registry.weights.names import Source, canonical_sources
from tests.registry import tiny as world
from tests.registry.tiny import Tiny


def _value(tensor: torch.Tensor, source: Source) -> torch.Tensor:
    return tensor.reshape(source.shape(tuple(tensor.shape)))


def test_names_need_no_torch():
    pure = [
        "weights.names",
        "weights.modules",
        "weights.algorithms",
        "compatibility",
        "pipeline_config",
        "backends",
        "backends.schedulers",
    ]
    code = "import sys\n" + "\n".join(f"import registry.{name}" for name in pure)
    code += "\nsys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("layers", "blocks"),
    [
        (1, ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D")),
        (2, ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")),  # SDXL's order
        (3, ("CrossAttnDownBlock2D", "DownBlock2D")),
        (2, ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")),  # SD 1's
    ],
)
def test_unet_of_any_depth_as_diffusers_converts_it(layers, blocks):
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    ups = tuple(block.replace("Down", "Up") for block in reversed(blocks))
    shape = {
        "down_block_types": blocks,
        "up_block_types": ups,
        "block_out_channels": (8,) * len(blocks),
        "layers_per_block": layers,
    }
    unet = UNet2DConditionModel(**(world.UNET | shape))
    attended = frozenset(i for i, up in enumerate(ups) if "CrossAttn" in up)
    single = {world.ldm_name(f"unet.{n}", len(blocks), layers, attended): t for n, t in unet.state_dict().items()}
    theirs = convert_ldm_unet_checkpoint(dict(single), {**unet.config})
    ours = {name: single[source.name] for name, source in canonical_sources(single, None).items()}
    assert ours.keys() == {f"unet.{name}" for name in theirs} == {f"unet.{name}" for name in unet.state_dict()}
    assert all(ours[f"unet.{name}"] is theirs[name] for name in theirs)
    # and back: a kohya file with LDM names means the same layers
    for name in unet.state_dict():
        ldm = world.ldm_name(f"unet.{name}", len(blocks), layers, attended)
        module = ldm.removeprefix("model.diffusion_model.").removesuffix(".weight").replace(".", "_")
        if name.endswith(".weight"):
            key = f"lora_unet_{module}.lora_down.weight"
            assert place([key], ours.keys()) == ({(f"unet.{name}",): {"down": key}}, {})


def test_vae_and_text_encoder_as_diffusers_converts_them(tiny: Tiny):
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_ldm_vae_checkpoint

    single = load_file(tiny.single)
    ours = {name: _value(single[source.name], source) for name, source in canonical_sources(single, None).items()}
    for name, tensor in convert_ldm_vae_checkpoint(single, {**world.VAE}).items():
        torch.testing.assert_close(ours[f"vae.{name}"], tensor, rtol=0, atol=0)
    for name, tensor in convert_ldm_clip_checkpoint(single).items():
        if not name.endswith("position_ids"):
            torch.testing.assert_close(ours[f"text_encoder.{name}"], tensor, rtol=0, atol=0)
    assert ours.keys() == tiny.tensors.keys()


def test_open_clip_as_diffusers_converts_it():
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    width, prefix = 6, "conditioner.embedders.1.model."
    layer = {
        "ln_1.weight": (width,), "ln_1.bias": (width,), "ln_2.weight": (width,), "ln_2.bias": (width,),
        "attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width), "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width), "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width), "mlp.c_proj.bias": (width,),
    }  # fmt: skip
    shapes = {f"transformer.resblocks.{i}.{name}": shape for i in range(2) for name, shape in layer.items()}
    shapes |= {"positional_embedding": (5, width), "token_embedding.weight": (9, width), "text_projection": (width, 4)}
    shapes |= {"ln_final.weight": (width,), "ln_final.bias": (width,), "logit_scale": ()}
    stored = {prefix + name: torch.randn(shape) for name, shape in shapes.items()}

    class Model:  # all that the converter asks of the model is its width
        config = type("Config", (), {"hidden_size": width})

    square = {**stored, prefix + "text_projection": torch.randn(width, width)}  # the converter takes the width from it
    theirs = convert_open_clip_checkpoint(Model, square, prefix=prefix)
    sources = canonical_sources(square, None)
    assert sources.keys() == {f"text_encoder_2.{name}" for name in theirs}
    for name, tensor in theirs.items():
        source = sources[f"text_encoder_2.{name}"]
        assert source.shape(tuple(square[source.name].shape)) == tuple(tensor.shape)
        if "in_proj" in source.name:
            begin, end = source.span(3 * width)
            torch.testing.assert_close(square[source.name][begin:end], tensor)
    projection = canonical_sources(stored, None)["text_encoder_2.text_projection.weight"]
    assert projection.transposed
    assert projection.shape((width, 4)) == (4, width)


def test_text_encoder_with_and_without_text_model_is_the_same():
    old = canonical_sources(
        ["text_model.encoder.layers.0.mlp.fc1.weight", "text_model.embeddings.position_ids"], "text_encoder"
    )
    new = canonical_sources(["encoder.layers.0.mlp.fc1.weight"], "text_encoder")
    assert old.keys() == new.keys() == {"text_encoder.text_model.encoder.layers.0.mlp.fc1.weight"}


def test_vae_attention_of_the_published_sd_1_5_folder():
    stored = ["encoder.mid_block.attentions.0.query.weight", "encoder.mid_block.attentions.0.proj_attn.bias"]
    assert set(canonical_sources(stored, "vae")) == {
        "vae.encoder.mid_block.attentions.0.to_q.weight",
        "vae.encoder.mid_block.attentions.0.to_out.0.bias",
    }
