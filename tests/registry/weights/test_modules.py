"""Every layout's spelling of a layer means one canonical weight; what means nothing, or two things, is a problem with a name."""

from __future__ import annotations

import re

import pytest

from registry.weights.algorithms import ALGORITHMS, recognise, split_part
from registry.weights.modules import place
from tests.registry import tiny as world
from tests.registry.tiny import ATTENTION, EVERYTHING, TEXT_ENCODER, Tiny


@pytest.mark.parametrize(
    ("layout", "targets"),
    [
        ("kohya", f"{EVERYTHING}|{TEXT_ENCODER}"),
        ("kohya-ldm", f"{EVERYTHING}|{TEXT_ENCODER}"),
        ("kohya-lycoris", EVERYTHING),
        ("diffusers", f"{EVERYTHING}|{TEXT_ENCODER}"),
        ("diffusers-old", ATTENTION),
        ("peft", EVERYTHING),
    ],
)
def test_every_adapter_layout_names_the_same_layers(tiny: Tiny, layout, targets):
    keys = world.lora(tiny.tensors, targets, layout=layout, alpha=None if layout.startswith(("diff", "peft")) else 2.0)
    expected = {name for name in tiny.tensors if re.fullmatch(targets, name)}
    assert expected
    layers, problems = place(keys, tiny.tensors.keys())
    assert problems == {}
    assert layers.keys() == {(name,) for name in expected}
    for parts in layers.values():
        assert all(part in key.replace("lora_A", "down").replace("lora_B", "up") for part, key in parts.items())
        assert not isinstance(recognise(parts), str)


QUERY = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.weight"
TO_Q = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"


@pytest.mark.parametrize(
    ("key", "weight"),
    [
        ("text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.down.weight", QUERY),
        ("text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight", QUERY),
        ("text_encoder.base_model.model.encoder.layers.0.self_attn.q_proj.lora_A.default.weight", QUERY),
        ("text_encoder.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight", QUERY),
        ("lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", QUERY),
        ("text_encoders.clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj.lora_down.weight", QUERY),
        ("lycoris_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight", TO_Q),
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q_.lora_down.weight", TO_Q),
        ("lora_unet__down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight", TO_Q),
        ("lora_unet__orig_mod_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight", TO_Q),
        ("diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.lora_A.weight", TO_Q),
        (
            "unet.base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.my-lora.weight",
            TO_Q,
        ),
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight", TO_Q),
    ],
)
def test_spellings(tiny: Tiny, key, weight):
    assert place([key], tiny.tensors.keys()) == ({(weight,): {"down": key}}, {})


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("lora_unet_down_blocks_9_attentions_0_proj_in.lora_down.weight", "has no layer lora_unet_down_blocks_9"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.hada_w9", "is no part of an adapter"),
        ("unet.conv_in.weight", "is no part of an adapter"),  # a whole weight, as in a checkpoint
        ("vae.decoder.conv_in.lora_A.weight", "has no layer vae"),  # no layout adapts the VAE
        ("", "is no part of an adapter"),
        ("weight", "is no part of an adapter"),
    ],
)
def test_what_means_nothing_is_said(tiny: Tiny, key, problem):
    layers, problems = place([key], tiny.tensors.keys())
    assert layers == {}
    assert problem in problems[key]


def test_a_name_that_could_mean_two_layers_means_neither():
    layer = "text_model.encoder.layers.0.mlp.fc1"
    base = [f"text_encoder.{layer}.weight", f"text_encoder_2.{layer}.weight"]
    assert place([f"{layer}.lora_A.weight"], base)[0] == {}
    assert place([f"text_encoder_2.{layer}.lora_A.weight"], base)[0].keys() == {(base[1],)}


def test_a_part_that_comes_twice_is_a_problem(tiny: Tiny):
    twice = [TO_Q.replace("weight", "lora_A.weight"), TO_Q.replace("weight", "lora.down.weight")]
    _, problems = place(twice, tiny.tensors.keys())
    assert problems == {twice[1]: f"is a second down part beside {twice[0]}"}


def test_no_layer_is_of_two_algorithms():
    """Each algorithm's parts, with everything that it may have besides, are recognised as it and as no other."""
    for algorithm in ALGORITHMS:
        for need in algorithm.needs:
            assert recognise(need) is algorithm
            assert [other.name for other in ALGORITHMS if other.takes(need | algorithm.may | algorithm.biases)] == [
                algorithm.name
            ]


def test_every_part_has_a_spelling():
    from registry.weights.algorithms import SPELLINGS

    known = set(SPELLINGS.values())
    for algorithm in ALGORITHMS:
        assert frozenset().union(*algorithm.needs, algorithm.may, algorithm.biases) <= known
    assert all(split_part(f"layer.{ending}") == ("layer", part) for ending, part in SPELLINGS.items())
