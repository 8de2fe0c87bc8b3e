"""What is like a known file and is another: parts of it, networks with its layers, other things of its sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from probes import Header, Hints, Kind, Outcome, TensorSpec, probe
from tests.probes import headers
from tests.probes.test_engine import header_of, lora


def without(name: str, *prefixes: str) -> Header:
    header = headers.load(name).header
    return Header({key: spec for key, spec in header.tensors.items() if not key.startswith(prefixes)}, header.metadata)


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("z-image-diffusers", ("layers.1", "layers.2")),
        ("lumina-2-diffusers", ("layers.2",)),
        ("auraflow-diffusers", ("single_transformer_blocks.3",)),
        ("unet-sd-1-ldm", ("output_blocks.3",)),
        ("unet-sd-1-diffusers", ("up_blocks.2",)),
        ("unet-sd-1-miniature-ldm", ("output_blocks.3",)),
        ("unet-sd-2-ldm", ("output_blocks.11",)),
        ("unet-sdxl-ldm", ("output_blocks.3",)),
        ("unet-sdxl-refiner-diffusers", ("up_blocks.3",)),
        ("unet-kolors-diffusers", ("up_blocks.0",)),
    ],
)
def test_a_shard_is_no_checkpoint(name: str, lost: tuple[str, ...]) -> None:
    assert probe(without(name, *lost)).outcome is Outcome.UNKNOWN


def test_the_text_encoders_of_a_checkpoint_may_be_alone() -> None:
    whole = headers.load("single-file-sdxl").header
    encoders = {key: spec for key, spec in whole.tensors.items() if key.startswith("conditioner.")}
    report = probe(Header(encoders, {}))
    assert (report.kind, report.layout) == (Kind.TEXT_ENCODER, "merged")


@pytest.mark.parametrize(
    ("name", "lost", "variant"),
    [
        ("unet-sdxl-ldm", ("input_blocks.4.1.transformer_blocks.1.",), "cut"),
        ("unet-sdxl-ldm", ("output_blocks.0.1.transformer_blocks.9.",), "cut"),
        ("unet-sdxl-diffusers", ("down_blocks.2.attentions.1.",), "cut"),
        ("unet-ssd-1b-diffusers", ("up_blocks.0.attentions.2.transformer_blocks.9.",), "cut"),
        ("unet-sdxl-inpaint-ldm", ("output_blocks.0.1.transformer_blocks.9.",), "inpaint"),
        ("unet-sdxl-ldm", (), "normal"),
        ("unet-segmind-vega-ldm", (), "normal"),
        ("unet-koala-700m-diffusers", (), "normal"),
    ],
)
def test_a_network_that_lacks_blocks_was_cut(name: str, lost: tuple[str, ...], variant: str) -> None:
    report = probe(without(name, *lost) if lost else headers.load(name).header)
    assert (report.outcome, report.variant) == (Outcome.IDENTIFIED, variant)


@pytest.mark.parametrize(
    "tensors",
    [
        {
            "double_layers.0.attn.w1q.weight": (3072, 3072),
            "cond_seq_linear.weight": (3072, 2048),
            "single_layers.0.attn.w1q.weight": (3072, 3072),
        },
        {
            "input_blocks.0.0.weight": (320, 4, 3, 3),
            "input_blocks.1.1.proj_in.weight": (320, 320, 1, 1),
            "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
            "out.2.weight": (4, 320, 3, 3),
        },
    ],
    ids=["auraflow", "sd-1"],
)
def test_a_few_tensors_are_no_checkpoint(tensors: dict[str, tuple[int, ...]]) -> None:
    assert probe(header_of(tensors)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "tensors",
    [
        {"mean": (1, 1024), "std": (1, 1024)},
        {"prompt_embeddings": (20, 4096)},
        {"varlen_t5_bfloat16": (85, 4096)},
        {"text_embed_0": (120, 4096)},
        {"concept_embeds": (17, 768), "special_care_embeds": (3, 768)},
        {"vector": (768,)},
        {"position.weight": (77, 768)},
        {"sks": (4, 768), "cat": (4, 768)},
        {"emb_params": (4, 768), "step": ()},
    ],
    ids=lambda tensors: "-".join(tensors),
)
def test_vectors_of_a_text_s_width_are_not_always_tokens(tensors: dict[str, tuple[int, ...]]) -> None:
    assert probe(header_of(tensors)).outcome is Outcome.UNKNOWN


def with_first(name: str, first: str, channels: int) -> Header:
    """The network with another number of channels in."""
    header = headers.load(name).header
    shape = header.tensors[first].shape
    spec = TensorSpec("F16", (shape[0], channels, *shape[2:]))
    return Header({**header.tensors, first: spec}, header.metadata)


@pytest.mark.parametrize(
    ("name", "channels", "variant"),
    [
        ("wan-1.3b-diffusers", 48, "control"),
        ("wan-14b-original", 48, "control"),
        ("wan-14b-original", 36, "image-to-video"),
    ],
)
def test_wan_takes_in_more_than_noise(name: str, channels: int, variant: str) -> None:
    report = probe(with_first(name, "patch_embedding.weight", channels))
    assert (report.family, report.variant) == ("wan", variant)


def test_wan_s_layers_over_sound_are_not_wan() -> None:
    """MOVA's: patches of one dimension, where Wan's have three."""
    wan = headers.load("wan-14b-original").header
    sound = Header({**wan.tensors, "patch_embedding.weight": TensorSpec("BF16", (5120, 128, 1))}, wan.metadata)
    assert probe(sound).outcome is Outcome.UNKNOWN


def test_a_language_model_that_is_told_the_noise_is_no_language_model() -> None:
    assert probe(headers.load("hidream-o1").header).kind is Kind.CHECKPOINT
    assert probe(without("hidream-o1", "model.t_embedder1.")).kind is Kind.LANGUAGE_MODEL


@pytest.mark.parametrize(("layout", "first"), [("diffusers", "conv_in.weight"), ("ldm", "input_blocks.0.0.weight")])
def test_eight_channels_are_not_always_a_picture_to_edit(layout: str, first: str) -> None:
    """InstructPix2Pix's, IC-Light's differences, stable-zero123's (with a camera) and Marigold's first layers are alike."""
    edit = headers.load(f"unet-sd-1-edit-{layout}").header
    assert probe(edit).variant == "edit"
    assert probe(edit, Hints(repo_id="lllyasviel/ic-light")).outcome is Outcome.UNKNOWN
    assert probe(edit, Hints(filename="iclight_sd15_fc_unet_ldm.safetensors")).outcome is Outcome.UNKNOWN
    assert probe(edit, Hints(repo_id="bennyguo/zero123-xl-diffusers")).outcome is Outcome.UNKNOWN
    assert probe(with_first(f"unet-sd-1-{layout}", first, 12)).outcome is Outcome.UNKNOWN
    plain = headers.load(f"unet-sd-1-{layout}").header
    assert probe(plain, Hints(filename="photon_ic-light_base.safetensors")).variant == "normal"


@pytest.mark.parametrize(("layout", "last"), [("diffusers", "conv_out.weight"), ("ldm", "out.2.weight")])
def test_what_predicts_other_latents_is_another_network(layout: str, last: str) -> None:
    """Those of sound have eight channels in, as a picture that is edited and its noise have, and eight out."""
    header = headers.load(f"unet-sd-1-edit-{layout}").header
    assert probe(header).outcome is Outcome.IDENTIFIED
    sound = {**header.tensors, last: TensorSpec("F16", (8, 320, 3, 3))}
    report = probe(Header(sound))
    assert report.outcome is Outcome.UNKNOWN
    assert f"but {last} has 8 rows, not 4" in report.reason


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("unet-sdxl", 16),
        ("unet-sdxl", 32),
        ("unet-ssd-1b", 16),
        ("unet-sdxl-refiner", 9),
        ("unet-sd-2", 12),
        ("unet-sd-2", 7),
    ],
)
@pytest.mark.parametrize(("layout", "first"), [("diffusers", "conv_in.weight"), ("ldm", "input_blocks.0.0.weight")])
def test_other_latents_make_another_network(name: str, channels: int, layout: str, first: str) -> None:
    """As SDXL's have that were trained on for FLUX's VAEs, and Marigold's of paint and light."""
    report = probe(with_first(f"{name}-{layout}", first, channels))
    assert report.outcome is Outcome.UNKNOWN
    assert f"but {first} is {channels} wide, not 4" in report.reason


@pytest.mark.parametrize(
    ("layout", "told"), [("diffusers", "class_embedding.linear_1.weight"), ("ldm", "label_emb.0.0.weight")]
)
@pytest.mark.parametrize(("width", "variant"), [(1536, "unclip"), (2048, "unclip"), (4, None)])
def test_what_is_told_more_than_a_text_is_no_plain_network(
    layout: str, told: str, width: int, variant: str | None
) -> None:
    """Of CLIP-L's and OpenCLIP-H's pictures are the two unCLIPs; Lotus is told which of two tasks it has."""
    header = headers.load(f"unet-sd-2-unclip-{layout}").header
    report = probe(Header({**header.tensors, told: TensorSpec("F16", (1280, width))}))
    assert report.variant == variant
    assert variant or f"but {told} is " in report.reason


@pytest.mark.parametrize(
    "encoder",
    ["model.visual.conv1.weight", "transformer.vision_model.embeddings.position_embedding.weight"],
    ids=["Image Variations", "Paint-by-Example"],
)
@pytest.mark.parametrize("network", ["unet-sd-1-ldm", "unet-sd-1-inpaint-ldm"])
def test_prompts_of_a_whole_file_may_be_pictures(network: str, encoder: str) -> None:
    tensors = {f"model.diffusion_model.{key}": spec for key, spec in headers.load(network).header.tensors.items()}
    tensors[f"cond_stage_model.{encoder}"] = TensorSpec("F16", (1024, 3, 14, 14))
    report = probe(Header(tensors))
    assert (report.family, report.variant) == ("sd-1", "image-prompt")


def test_a_class_makes_no_sd_1() -> None:
    header = headers.load("unet-sd-1-ldm").header
    assert (
        probe(Header({**header.tensors, "label_emb.weight": TensorSpec("F16", (1000, 1280))})).outcome
        is Outcome.UNKNOWN
    )


def test_eight_channels_of_zero123_and_marigold_are_no_edit() -> None:
    camera = {"cc_projection.weight": TensorSpec("F16", (768, 772))}
    zero123 = headers.load("unet-sd-1-edit-ldm").header
    assert probe(Header({**zero123.tensors, **camera})).outcome is Outcome.UNKNOWN
    marigold = probe(with_first("unet-sd-2-diffusers", "conv_in.weight", 8))
    assert (marigold.family, marigold.variant) == ("sd-2", None)


def encoder_lora(prefix: str, width: int, count: int) -> Header:
    return lora(*((f"{prefix}encoder.layers.{i}.self_attn.q_proj", width, width) for i in range(count)))


@pytest.mark.parametrize(
    ("prefix", "width", "count", "family"),
    [
        ("base_model.model.text_model.", 1024, 23, "sd-2"),
        ("base_model.model.text_model.", 1024, 24, None),
        ("base_model.model.", 1024, 12, None),
        ("lora_te_text_model_", 768, 12, "sd-1"),
        ("lora_te_text_model_", 768, 6, None),
    ],
)
def test_other_text_towers_of_the_same_width_have_other_depths(
    prefix: str, width: int, count: int, family: str | None
) -> None:
    assert probe(encoder_lora(prefix, width, count)).family == family


def narrowed(name: str) -> Header:
    """Half of what every layer gives, and in an adapter of what it takes in, but of the width of a text and of latents."""
    header, kept = (
        headers.load(name).header,
        ("attn2_to_k.lora_down.weight", "attn2_to_v.lora_down.weight", "out.weight", "out.2.weight"),
    )
    halved = {
        key: TensorSpec(spec.dtype, (*spec.shape[:axis], spec.shape[axis] // 2, *spec.shape[axis + 1 :]))
        for key, spec in header.tensors.items()
        for axis in [int(key.endswith("lora_down.weight"))]
        if axis < len(spec.shape) and not key.endswith(kept)
    }
    return Header(header.tensors | halved)


@pytest.mark.parametrize(
    "name",
    ["lora-sd-1-kohya-no-alpha", "lora-sd-2-kohya-no-alpha", "unet-sd-1-ldm", "unet-sd-2-diffusers", "unet-sdxl-ldm"],
)
def test_the_text_s_width_alone_makes_no_stable_diffusion(name: str) -> None:
    assert probe(headers.load(name).header).outcome is Outcome.IDENTIFIED
    assert probe(narrowed(name)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "name", ["lora-sd-1-kohya-no-alpha", "lora-sd-2-kohya-no-alpha", "lora-sd-1-miniature-kohya-no-alpha"]
)
def test_one_layer_of_another_width_makes_another_network(name: str) -> None:
    header = headers.load(name).header
    odd = "lora_unet_up_blocks_1_attentions_1_transformer_blocks_0_attn2_to_k.lora_up.weight"
    report = probe(Header({**header.tensors, odd: TensorSpec("F16", (999, header.tensors[odd].shape[1]))}))
    assert report.outcome is Outcome.UNKNOWN
    assert "-> 999" in report.reason


def test_video_networks_that_share_layers_with_sd_2_are_told_by_name() -> None:
    header = headers.load("lora-sd-2-unet-peft").header
    report = probe(header)
    assert (report.outcome, report.family, report.candidates) == (Outcome.IDENTIFIED, "sd-2", ("sd-2 lora", "svd lora"))
    assert "svd has the same layers, but nothing says that it is for that." in report.reason
    assert probe(header, Hints(card={"base_model": "stabilityai/stable-video-diffusion-img2vid-xt"})).family == "svd"
    assert probe(header, Hints(family="svd")).family == "svd"
    assert probe(header, Hints(family="sd-2")).candidates == ()
    assert probe(header, Hints(repo_id="someone/zeroscope_v2-style")).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("name", ["lora-sd-2-kohya", "lora-sd-2-locon-conv-8"])
def test_text_encoders_and_convolutions_are_no_video_network_s(name: str) -> None:
    assert "svd lora" not in probe(headers.load(name).header).candidates


def test_lora_of_diffsynth_is_read_under_its_pipeline() -> None:
    tensors = headers.load("lora-wan-14b-original").header.tensors
    report = probe(Header({name.replace("diffusion_model.", "pipe.dit."): tensors[name] for name in tensors}))
    assert (report.kind, report.family) == (Kind.LORA, "wan")


def test_control_lora_is_no_control_net() -> None:
    assert probe(without("control-lora-sdxl", "lora_controlnet")).kind is Kind.CONTROL_LORA
    assert probe(headers.load("control-lora-sdxl").header).kind is Kind.CONTROL_LORA


def test_four_bits_in_a_byte_are_counted_as_two_values() -> None:
    """NVFP4, as Black Forest Labs and ComfyUI publish it: scales of 16 values, and one of the whole layer."""
    for name, blocks in (("flux-1-dev-bfl", ("double_blocks", "single_blocks")), ("z-image-diffusers", ("layers",))):
        tensors: dict[str, TensorSpec] = {}
        for key, spec in headers.load(name).header.tensors.items():
            tensors[key] = spec
            if key.startswith(blocks) and len(spec.shape) == 2:
                outer, inner = spec.shape
                tensors[key] = TensorSpec("U8", (outer, inner // 2))
                tensors[f"{key}_scale"] = TensorSpec("F8_E4M3", (outer, inner // 16))
                tensors[f"{key}_scale_2"] = TensorSpec("F32", ())
        packed, plain = probe(Header(tensors)), probe(headers.load(name).header)
        assert (packed.family, packed.variant) == (plain.family, plain.variant)


@pytest.mark.parametrize("layer", ["context_embedder", "single_transformer_blocks.3.attn.to_q"])
def test_four_bits_that_tell_no_widths_must_be_as_many_as_the_layer_has(layer: str) -> None:
    header = headers.load("auraflow-nf4").header
    (count, one), name = header.tensors[f"{layer}.weight"].shape, f"{layer}.weight"
    wrong = Header({**header.tensors, name: TensorSpec("U8", (2 * count, one))})
    assert probe(wrong).outcome is Outcome.UNKNOWN


def test_a_weight_in_pieces_has_the_shape_of_its_values() -> None:
    header = headers.load("flux-1-dev-torchao").header
    wrong = {**header.tensors, "txt_in.weight:qdata": TensorSpec("I8", (3072, 2048))}
    assert probe(Header(wrong)).outcome is Outcome.UNKNOWN
    assert probe(Header({**header.tensors, "img_in.lora:scale": TensorSpec("F32", (1,))})).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("odd", ["lora_unet_down_blocks_0_motion_modules_0_proj", "lora_unet_input_blocks_99_0_op"])
def test_a_layer_of_neither_naming_is_not_passed_over(odd: str) -> None:
    header = headers.load("lora-sdxl-two-namings").header
    more = {f"{odd}.lora_{side}.weight": TensorSpec("F16", shape) for side, shape in (("down", (8, 9)), ("up", (9, 8)))}
    assert probe(Header({**header.tensors, **more})).outcome is Outcome.UNKNOWN


def test_a_layer_s_name_may_end_with_an_underscore() -> None:
    """TheLastBen's trainer flattens the dot before the part, too."""
    header = headers.load("lora-flux-kohya-text").header
    ended = {key.replace(".", "_.", 1): spec for key, spec in header.tensors.items()}
    assert probe(Header(ended, {})).family == "flux-1"


def test_a_layer_s_name_may_begin_with_an_underscore() -> None:
    """VideoX-Fun joins its prefix to the network's own name, which is empty."""
    header = headers.load("lora-flux-kohya-text").header
    begun = {key.replace("lora_unet_", "lora_unet__"): spec for key, spec in header.tensors.items()}
    assert probe(Header(begun, {})).family == "flux-1"


@pytest.mark.parametrize(
    ("name", "plain", "wrapped"),
    [
        ("unet-sdxl-diffusers", "", "module."),
        ("unet-sdxl-diffusers", "", "_orig_mod."),
        ("flux-1-dev-bfl", "_blocks.0.", "_blocks.0._orig_mod."),
        ("flux-1-dev-bfl", "_blocks.0.", "_blocks.0._checkpoint_wrapped_module."),
        ("lora-flux-kohya-text", "lora_unet_", "lora_unet__orig_mod_"),
    ],
)
def test_what_frameworks_wrap_around_modules_is_not_the_network_s(name: str, plain: str, wrapped: str) -> None:
    header = headers.load(name).header
    tensors = {key.replace(plain, wrapped, 1): spec for key, spec in header.tensors.items()}
    assert tensors.keys() != header.tensors.keys()
    assert probe(Header(tensors)).family == probe(header).family


def test_a_name_beside_a_wrapper_s_is_not_unwrapped() -> None:
    tensors = {f"module.{key}": spec for key, spec in headers.load("unet-sdxl-diffusers").header.tensors.items()}
    other = {"optimizer.step": TensorSpec("I64", ())}
    assert probe(Header(tensors | other)).outcome is Outcome.UNKNOWN


def flattened(width: int) -> Header:
    """A LoRA of SD 3's patches and of an attention's projection."""
    rest = lora(*((f"diffusion_model.joint_blocks.{i}.x_block.attn.qkv", 1536, 4608) for i in range(24)))
    patches = lora(("diffusion_model.x_embedder.proj", width, 1536))
    return Header({**rest.tensors, **patches.tensors})


@pytest.mark.parametrize(("width", "family"), [(16, "sd-3"), (64, "sd-3"), (144, "sd-3"), (32, None)])
def test_a_kernel_may_be_flattened_and_nothing_else(width: int, family: str | None) -> None:
    """As ComfyUI trains: [rank, channels * 2 * 2] of a patch."""
    assert probe(flattened(width)).family == family


def test_numbered_layers_are_told_by_the_text_that_the_seventh_takes_in() -> None:
    header = headers.load("lora-sd-1-cloneofsimo").header
    assert probe(Header({**header.tensors, "unet:6:down": TensorSpec("F32", (4, 2048))})).outcome is Outcome.UNKNOWN
    assert probe(Header({**header.tensors, "stray": TensorSpec("F32", (4,))})).outcome is Outcome.UNKNOWN


def test_a_row_of_linear_layers_is_no_upscaler() -> None:
    header = headers.load("upscaler-compact").header
    linear = {name: TensorSpec("F16", spec.shape[:2]) for name, spec in header.tensors.items()}
    assert probe(header).kind is Kind.UPSCALER
    assert probe(Header(linear)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("stray", ["step", "lora_unet_mystery.alpha", "clip_l", "clip_g"])
def test_a_stray_tensor_is_a_companion_of_good_modules(stray: str) -> None:
    header = headers.load("lora-sd-1-kohya").header
    report = probe(Header({**header.tensors, stray: TensorSpec("F32", (4, 768) if "clip" in stray else ())}))
    assert (report.kind, report.family) == (Kind.LORA, "sd-1")
    assert probe(Header({**header.tensors, "stray": TensorSpec("F32", ())})).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("tokens", "said", "family"),
    [
        (120, None, "pixart-alpha"),
        (300, None, "pixart-sigma"),
        (None, None, "pixart-sigma"),
        (None, "PixArt-alpha/PixArt-XL-2-512x512", "pixart-alpha"),
    ],
)
def test_small_pixart_alpha_is_told_by_its_longest_text_or_by_name(
    tokens: int | None, said: str | None, family: str
) -> None:
    """It embeds no resolution, as Sigma does not."""
    header = headers.load("pixart-sigma-diffusers").header
    table = {"caption_projection.y_embedding": TensorSpec("BF16", (tokens, 4096))} if tokens else {}
    report = probe(Header({**header.tensors, **table}), Hints(repo_id=said))
    assert (report.outcome, report.family) == (Outcome.IDENTIFIED, family)
    open_ = tokens is None and said is None
    assert report.candidates == (("pixart-sigma checkpoint", "pixart-alpha checkpoint") if open_ else ())
    assert ("pixart-alpha has the same tensors, but nothing says that it is one." in report.reason) == open_


def test_no_name_overrules_the_longest_text() -> None:
    header = headers.load("pixart-sigma-diffusers").header
    longest = {"caption_projection.y_embedding": TensorSpec("BF16", (300, 4096))}
    report = probe(Header({**header.tensors, **longest}), Hints(repo_id="PixArt-alpha/PixArt-XL-2-512x512"))
    assert (report.family, report.candidates) == ("pixart-sigma", ())


def sdnq(spec: TensorSpec, group: int, bits: int, values_in: tuple[int, int]) -> dict[str, TensorSpec]:
    """A linear layer's weight and what SDNQ puts beside it; of `bits`, as many values as the first are in as many bytes as the second."""
    outer, inner = spec.shape
    groups = inner // group
    stored = TensorSpec("I8", (outer, groups, group))
    if bits < 8:
        values, size = values_in
        stored = TensorSpec("U8", (outer * inner // values, *([size] if size > 1 else [])))
    scale = TensorSpec("BF16", (outer, groups, 1))
    rest = {"svd_up": TensorSpec("BF16", (outer, 32)), "svd_down": TensorSpec("BF16", (32, inner))}
    return {"weight": stored, "scale": scale, "zero_point": scale, **rest}


@pytest.mark.parametrize(("bits", "values_in"), [(8, (1, 1)), (7, (8, 7)), (6, (4, 3)), (5, (8, 5)), (4, (2, 1))])
def test_sdnq_s_groups_and_bytes_are_counted_as_values(bits: int, values_in: tuple[int, int]) -> None:
    header = headers.load("flux-1-dev-bfl").header
    tensors: dict[str, TensorSpec] = {}
    for key, spec in header.tensors.items():
        layer, _, part = key.rpartition(".")
        linear = "_blocks" in key and part == "weight" and len(spec.shape) == 2
        tensors |= (
            {f"{layer}.{piece}": made for piece, made in sdnq(spec, 64, bits, values_in).items()}
            if linear
            else {key: spec}
        )
    packed = probe(Header(tensors))
    assert (packed.family, packed.variant) == ("flux-1", "dev")
    widened = tensors["double_blocks.0.img_mlp.0.weight"]
    tensors["double_blocks.0.img_mlp.0.weight"] = TensorSpec(widened.dtype, (2 * widened.shape[0], *widened.shape[1:]))
    assert probe(Header(tensors)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("weight", [(), (0,), (7,), (3072, 0), (3072, 4, 16, 16), (5, 9)])
@pytest.mark.parametrize("scale", [(), (3072,), (0, 1), (3072, 1), (3072, 48, 1), (3072, 1, 3, 3)])
def test_scales_that_do_not_belong_to_a_weight_make_no_network(weight: tuple[int, ...], scale: tuple[int, ...]) -> None:
    tensors = dict(headers.load("flux-1-dev-bfl").header.tensors)
    layer = "double_blocks.0.img_mlp.0"
    odd = {f"{layer}.weight": TensorSpec("U8", weight), f"{layer}.scale": TensorSpec("BF16", scale)}
    assert probe(Header({**tensors, **odd})).outcome is Outcome.UNKNOWN


def adapted(parts: Callable[[int, int], dict[str, tuple[int, ...]]], text: int) -> Header:
    """PEFT's adapter of cross-attention that takes in text of this width."""
    tensors = {}
    for level, width in ((0, 320), (1, 640), (2, 1280)):
        for layer, inner in (("to_q", width), ("to_k", text), ("to_v", text)):
            path = f"base_model.model.down_blocks.{level}.attentions.0.transformer_blocks.0.attn2.{layer}"
            tensors |= {f"{path}.{part}": TensorSpec("F32", shape) for part, shape in parts(inner, width).items()}
    return Header(tensors)


ROTATIONS: dict[str, Callable[[int, int], dict[str, tuple[int, ...]]]] = {
    "AdaLoRA": lambda inner, outer: {"lora_A": (8, inner), "lora_B": (outer, 8), "lora_E": (8, 1)},
    "BOFT": lambda inner, outer: {"boft_R": (1, inner // 8, 8, 8), "boft_s": (outer, 1)},
    "HRA": lambda inner, _: {"hra_u": (inner, 8)},
}


@pytest.mark.parametrize("method", ROTATIONS)
def test_peft_s_rarer_adapters_tell_the_text_that_they_take_in(method: str) -> None:
    assert probe(adapted(ROTATIONS[method], 768)).family == "sd-1"
    assert probe(adapted(ROTATIONS[method], 1024)).family == "sd-2"
    assert probe(adapted(ROTATIONS[method], 896)).outcome is Outcome.UNKNOWN


def test_vera_leaves_open_what_its_layers_take_in() -> None:
    shared = {f"base_model.vera_{part}": TensorSpec("F32", (256, 1280)) for part in "AB"}
    layers = adapted(lambda _, outer: {"vera_lambda_b": (outer,), "vera_lambda_d": (256,)}, 768)
    report = probe(Header({**layers.tensors, **shared}))
    assert report.outcome is Outcome.AMBIGUOUS
    assert {"sd-1 lora", "sd-2 lora"} <= set(report.candidates)


def test_what_a_sparse_extraction_leaves_belongs_to_the_layer() -> None:
    header = headers.load("lora-sd-1-kohya").header
    shapes = {"indices": (2, 99), "values": (99,), "size": (2,)}
    layers = {key.partition(".")[0] for key in header.tensors}
    sparse = {f"{layer}.bias_{part}": TensorSpec("F16", shape) for layer in layers for part, shape in shapes.items()}
    assert probe(Header({**header.tensors, **sparse})).family == "sd-1"


def test_comfyui_s_text_encoder_may_be_sd_1_s() -> None:
    """It calls CLIP-L the same wherever it stands; kohya calls it te1 only where there is a second."""
    names = {
        prefix: set(probe(encoder_lora(prefix, 768, 12)).candidates)
        for prefix in ("text_encoders.clip_l.transformer.text_model.", "lora_te1_text_model_")
    }
    theirs, kohya = names.values()
    assert theirs - kohya == {"sd-1 lora"}


@pytest.mark.parametrize(
    "tensors",
    [
        {"model.0.weight": (64, 3, 4, 4), "model.2.weight": (128, 64, 4, 4), "model.5.weight": (1, 128, 4, 4)},
        {
            "body.0.weight": (32, 3, 3, 3),
            "body.1.weight": (32,),
            "body.2.weight": (64, 32, 3, 3),
            "fc.weight": (10, 64),
        },
    ],
    ids=["a discriminator of patches", "a classifier"],
)
def test_convolutions_in_a_row_are_no_upscaler_by_themselves(tensors: dict[str, tuple[int, ...]]) -> None:
    header = Header({name: TensorSpec("F32", shape) for name, shape in tensors.items()})
    assert probe(header).outcome is Outcome.UNKNOWN


CONV, LINEAR, NORM = (64, 3, 3, 3), (64, 64), (64,)
FOREIGN: dict[str, dict[str, tuple[int, ...]]] = {
    # what it is: the names, all a stranger's, that a network has which is recognised
    "contrastive": {"image_proj.weight": LINEAR, "image_proj.bias": NORM, "text_proj.weight": LINEAR},
    "fused prompts": {"ip_adapter.weight": LINEAR, "fc.weight": LINEAR},
    "identity": {"id_adapter.fc.weight": LINEAR},
    "faces with clip": {"id_encoder.vision_model.embeddings.class_embedding": (1024,), "swap.weight": CONV},
    "cached features": {"image_features": (1, 768)},
    "a speaker": {"speaker_embedding": (1, 768)},
    "cached state": {"layer_10": (4096,)},
    "a steering vector": {"direction-10": (4096,)},
    "a pooled text": {"pooled": (1, 1024)},
    "a table of another width": {"clip_l": (4, 1280)},
    "denoising, half": {"intro.weight": CONV, "ending.weight": CONV},
    "any unet": {"m_head.0.weight": CONV, "m_tail.0.weight": CONV},
    "any classifier": {"conv_first.weight": CONV, "body.0.weight": CONV, "classifier.weight": LINEAR},
    "normalised pictures": {
        "sub_mean.weight": (3, 3, 1, 1),
        "add_mean.weight": (3, 3, 1, 1),
        "classifier.weight": LINEAR,
    },
    "swin": {
        "conv_first.weight": CONV,
        "conv_last.weight": CONV,
        "patch_embed.norm.weight": NORM,
        "head.weight": LINEAR,
    },
    "swin's blocks": {"conv_first.weight": CONV, "conv_last.weight": CONV, "layers.0.blocks.0.norm1.weight": NORM},
    "projections": {"input_proj.proj.0.weight": LINEAR, "output_proj.proj.0.weight": LINEAR},
    "dimensions": {"in_to_dim.weight": LINEAR, "upscale.0.weight": LINEAR},
    "two unets": {"unet1.conv1.conv.0.weight": CONV, "unet2.conv1.conv.0.weight": CONV},
    "codes": {"position_emb": LINEAR, "idx_pred_layer.0.weight": NORM},
    "levels": {"patch_embed.proj.weight": CONV, "encoder_level1.0.norm1.weight": NORM},
    "stages": {"shallow_feat1.0.weight": CONV, "concat12.weight": CONV},
    "gates": {"gblocks.0.weight": LINEAR, "gblocks.1.norm.weight": NORM},
    "a fast fourier layer": {"model.model.1.ffc.convl2l.weight": CONV},
    "three layers": {"body.0.weight": CONV, "body.1.weight": NORM, "body.2.weight": CONV},
    "convolutions, then classes": {"model.0.weight": CONV, "model.2.weight": CONV, "model.6.weight": (10, 64)},
    "a sequence": {"0.weight": (10, 784), "1.conv.0.weight": LINEAR},
    "a sequence with a stem": {"1.weight": LINEAR, "3.conv.0.weight": LINEAR},
    "speech": {"encoder.layers.0.weight": LINEAR, "decoder.output_proj.weight": LINEAR},
    "a row autoencoder": {"encoder.proj_in.weight": LINEAR, "decoder.proj_out.weight": LINEAR},
    "a mixed autoencoder": {"encoder.conv1.weight": CONV, "decoder.conv_out.weight": CONV},
    "convolutions both ways": {"encoder.conv_in.weight": CONV, "decoder.conv_out.weight": CONV},
    "a perceptron": {"input_blocks.0.weight": LINEAR, "output_blocks.0.weight": LINEAR},
    "a patch embedding": {"pos_embed_input.proj.weight": CONV, "head.weight": LINEAR},
    "controllers": {"control_blocks.0.after_proj.weight": LINEAR, "controlnet_blocks.0.weight": LINEAR},
    "a residual block": {"body.0.block1.weight": CONV, "fc.weight": LINEAR},
    "a bottleneck": {"body.0.in_conv.weight": CONV, "fc.weight": LINEAR},
    "attention in time": {"down_blocks.0.temporal_attentions.0.proj_in.weight": LINEAR, "head.weight": LINEAR},
    "a picture's encoder": {"encoder.layers.0.self_attn.q_proj.weight": LINEAR, "post_layernorm.weight": NORM},
    "a graph": {"embeddings.weight": LINEAR, "layers.0.attention.out.weight": LINEAR},
    "a pretrained backbone": {"pretrained.cls_token": (1, 1, 384), "head.projects.0.weight": LINEAR},
    "patches": {"encoder.patch_encoder.cls_token": (1, 1, 64), "head.0.weight": CONV},
    "lines": {"backbone.features.0.0.weight": CONV, "block23.conv1.0.weight": CONV},
    "blocks": {f"block{at}.conv0.{layer}.0.weight": CONV for at in range(2) for layer in range(2)},
    "layers by number": {"320.0.linear.0.weight": LINEAR},
    "transformers in x": {"to_timestep_embed.0.weight": LINEAR, "transformer.rotary_pos_emb.inv_freq": NORM},
}


@pytest.mark.parametrize("tensors", FOREIGN.values(), ids=FOREIGN)
def test_a_name_or_two_make_no_kind(tensors: dict[str, tuple[int, ...]]) -> None:
    assert probe(header_of(tensors)).outcome is Outcome.UNKNOWN
