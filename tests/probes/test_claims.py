"""Names that people give their files, and the family that they mean."""

from __future__ import annotations

from dataclasses import replace

import pytest

from probes import Header, Hints, Outcome, probe
from probes.claims import family_of
from tests.probes import headers


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("my_chroma_style_v2", "chroma"),
        ("kolors_ink", "kolors"),
        ("best_wan2.2_lora", "wan"),
        ("lcm_ssd_1b", "ssd-1b"),
        ("style_sd15_v3", "sd-1"),
        ("sdxl_style_v2", "sdxl"),
        ("flux1-dev-style", "flux-1"),
        ("FLUX.2-klein-4B", "flux-2"),
        ("LTX-2-19b-IC-LoRA-Depth", "ltx-2"),
        ("ltx2_style", "ltx-2"),
        ("ltx-2.3_detailer", "ltx-2"),
        ("ltx-video-2b-v0.9", "ltx-video"),
        ("ltxv-13b", "ltx-video"),
        ("CogView4-6B", "cogview4"),
        ("a_cat_by_the_sea", None),
        ("achromatic", None),
        ("chroma-key-portraits", None),
        ("flux_chroma_look", "flux-1"),
        ("flux-to-Chroma1-HD", "chroma"),
        ("chroma_unlocked_v35", "chroma"),
        ("ostris/Flex.1-alpha", "flux-1"),
        ("swan_lake", None),
        ("HunyuanImage-2.1-style", "hunyuan-image"),
        ("HunyuanVideo-1.5", "hunyuan-video-1.5"),
        ("hunyuan_video_i2v", "hunyuan-video"),
        ("krea2_sliders", "krea-2"),
        ("Qwen-Image-2.1", "qwen-image-2.1"),
        ("Qwen-Image-2512", "qwen-image"),
        ("FLUX.3-dev-style", "flux-3"),
        ("flux-3d-render", "flux-1"),
        ("ERNIE-Image-Turbo", "ernie-image"),
        ("HiDream-O1-Image", "hidream-o1"),
        ("HiDream-I1-Full", "hidream"),
        ("JoyAI-Image-Edit", "joyai-image"),
        ("joy_imagery", None),
        ("Boogu-Image-0.1-Base", "boogu-image"),
        ("LongCat-Video", "longcat-video"),
        ("LongCat-Image", "longcat-image"),
        ("lingbot-video-dense-1.3b", "lingbot-video"),
        ("minimax_h3_fl2va_pruned_bf16", "minimax-h3"),
        ("FLUX.1-Krea-dev", "flux-1"),
        ("ideogram4-lora", "ideogram-4"),
        ("Kandinsky-5.0-T2V-Lite", "kandinsky-5"),
        ("OmniGen2-edit", "omnigen-2"),
        ("Sana_1600M_1024px", "sana"),
        ("portrait_of_sana", None),
        ("CogVideoX-5b-orbit", "cogvideox"),
        ("mochi-1-preview-dissolve", "mochi"),
        ("mochi_ice_cream", None),
        ("v2-1_768-ema-pruned", "sd-2"),
        ("SD 2.1 768", "sd-2"),
        ("age_slider_v2-1", None),  # its own version
        ("sd1.5_style_v2-1", "sd-1"),
        ("sd_2.5d_anime", None),
        ("sd_3d_render", None),
        ("sd3.5-style", "sd-3"),
        ("Pony", "sdxl"),
        ("Pony V7", "auraflow"),
        ("ponyXL_style", "sdxl"),
        ("ponytail_v2", None),
        ("Pony Tail Slider", None),
    ],
)
def test_words_are_read_whole_whatever_joins_them(name: str, family: str | None) -> None:
    assert family_of(name) == family


def test_hair_is_no_sub_family_and_settles_nothing() -> None:
    hair = Hints(filename="high_ponytail_v2.safetensors")
    assert probe(headers.load("lora-sdxl-kohya").header, hair).tags == ()
    assert probe(headers.load("lora-clip-l-only").header, hair).outcome is Outcome.AMBIGUOUS


def test_of_a_long_text_the_beginning_is_read() -> None:
    assert family_of(f"{'xl-' * 300}sdxl") == "sdxl"
    assert family_of(f"{'xl-' * 1_000_000}sdxl") is None  # and that at once


@pytest.mark.parametrize(
    ("stated", "family"),
    [  # Civitai's base models, and OneTrainer's architectures
        ("Ernie Turbo", "ernie-image"),
        ("Ernie/lora", "ernie-image"),
        ("Ideogram/lora", "ideogram-4"),
        ("sana/embedding", "sana"),
        ("Boogu", "boogu-image"),
        ("Hunyuan 1", "hunyuan-dit"),
        ("Lumina", "lumina-2"),
        ("PixArt a", "pixart-alpha"),
        ("PixArt E", "pixart-sigma"),
        ("LTXV", "ltx-video"),
        ("LTXV2", "ltx-2"),
        ("LTXV 2.3", "ltx-2"),
        ("Mochi", "mochi"),
        ("Qwen", "qwen-image"),
        ("ZImageTurbo", "z-image"),
        ("Pony", "sdxl"),
        ("Pony V7", "auraflow"),
        ("Wan Video 2.2 I2V-A14B", "wan"),
        ("Lumina by night", None),
        ("ernie and bert", None),
    ],
)
def test_what_is_stated_of_a_base_may_be_one_word(stated: str, family: str | None) -> None:
    assert family_of(stated) == family


def test_layers_that_two_families_share_go_to_the_one_that_is_named() -> None:
    header = headers.load("lora-flux-diffusers").header
    plain = probe(header)
    assert plain.family == "flux-1"
    assert "chroma has the same layers" in plain.reason
    assert plain.candidates == ("flux-1 lora", "chroma lora")
    assert probe(header, Hints(filename="my_chroma_style.safetensors")).family == "chroma"


@pytest.mark.parametrize("name", ["lora-flux-diffusers", "lora-sdxl-kohya-unet"])
def test_a_reason_tells_what_a_file_is_and_not_what_nobody_said(name: str) -> None:
    assert "said" not in probe(headers.load(name).header).reason


TRAINED_ON = {  # fixture -> (what its trainer writes, what a card says, the rival that its layers fit, how a name says that)
    "lora-flux-diffusers": ({"ss_base_model_version": "flux1"}, "black-forest-labs/FLUX.1-dev", "chroma", "chroma_look"),
    "lora-sdxl-kohya-diffusers-names": (
        {"ss_base_model_version": "sdxl_base_v1-0"}, "stabilityai/stable-diffusion-xl-base-1.0", "kolors", "kolors_look",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINED_ON)
def test_of_look_alikes_a_name_overrules_neither_the_trainer_nor_the_card(name: str) -> None:
    metadata, base, rival, called = TRAINED_ON[name]
    fixture = headers.load(name)
    misleading = Hints(repo_id=f"someone/{called}", filename=f"{called}.safetensors")
    of_rival = replace(misleading, card={"base_model": base})
    bare = Header(fixture.header.tensors)
    assert probe(bare, of_rival).family == fixture.expect["family"]
    assert probe(Header(fixture.header.tensors, metadata), misleading).family == fixture.expect["family"]
    assert probe(bare, misleading).family == rival


@pytest.mark.parametrize("name", ["lora-sdxl-kohya", "lora-sdxl-kohya-unet"])
def test_what_kolors_cannot_be_no_name_makes_it(name: str) -> None:
    report = probe(headers.load(name).header, Hints(filename="kolors_look.safetensors"))
    assert (report.outcome, report.family) == (Outcome.IDENTIFIED, "sdxl")


@pytest.mark.parametrize(
    ("name", "rarer"), [("lora-flux-diffusers", "chroma"), ("lora-sdxl-diffusers", "kolors"), ("lora-flux-kohya", None)]
)
def test_a_reason_names_the_rarer_family_whose_layers_these_are_too(name: str, rarer: str | None) -> None:
    header = Header(headers.load(name).header.tensors)
    assert (f"{rarer} has the same layers" in probe(header).reason) == (rarer is not None)
    assert (
        "same layers" not in probe(header, Hints(card={"base_model": "black-forest-labs/FLUX.1-dev"})).reason
        or rarer == "kolors"
    )


def test_the_trainer_overrules_the_card() -> None:
    header = Header(headers.load("lora-flux-diffusers").header.tensors, {"modelspec.architecture": "chroma/lora"})
    assert probe(header, Hints(card={"base_model": "black-forest-labs/FLUX.1-dev"})).family == "chroma"


# --- networks that were cut from FLUX.1 ---


def cut(name: str, double: str) -> Header:
    """With FLUX.1's first 8 double blocks, as flux.1-lite-8B and Flex.1-alpha."""
    header = headers.load(name).header
    gone = tuple(f"{double}.{n}." for n in range(8, 19))
    return Header({k: v for k, v in header.tensors.items() if not k.removeprefix("transformer.").startswith(gone)})


@pytest.mark.parametrize(
    ("name", "double"), [("flux-1-dev-bfl", "double_blocks"), ("flux-1-schnell-diffusers", "transformer_blocks")]
)
def test_a_cut_flux_is_a_checkpoint_of_its_own_variant(name: str, double: str) -> None:
    report = probe(cut(name, double))
    assert (report.outcome, report.family, report.variant) == (Outcome.IDENTIFIED, "flux-1", "lite")


def test_a_lora_for_a_cut_flux_may_be_one_for_fibo() -> None:
    report = probe(cut("lora-flux-diffusers", "transformer_blocks"))
    assert report.candidates == ("bria-fibo lora", "flux-1 lora")
    assert "NAME-flux-1.safetensors" in report.reason  # what most LoRAs are for


@pytest.mark.parametrize(
    ("metadata", "hints"),
    [
        ({"ss_base_model_version": "flux1"}, Hints()),
        ({}, Hints(card={"base_model": "ostris/Flex.1-alpha"})),
        ({}, Hints(card={"base_model": ["Freepik/flux.1-lite-8B"]}, filename="fibo_look.safetensors")),
        ({}, Hints(filename="flux_look.safetensors")),
    ],
    ids=["metadata", "card", "card against a name", "name"],
)
def test_a_lora_for_a_cut_flux_that_says_so_is_one(metadata: dict[str, str], hints: Hints) -> None:
    header = cut("lora-flux-diffusers", "transformer_blocks")
    report = probe(Header(header.tensors, metadata), hints)
    assert (report.outcome, report.family, report.variant) == (Outcome.IDENTIFIED, "flux-1", "lite")


def test_a_lora_for_fibo_that_says_so_is_one() -> None:
    header = cut("lora-flux-diffusers", "transformer_blocks")
    assert probe(header, Hints(card={"base_model": "briaai/FIBO"})).family == "bria-fibo"


def test_covering_a_smaller_network_does_not_overrule_what_the_trainer_says() -> None:
    """FLUX.2 klein's attention is FLUX.1's first blocks, so who trained those of FLUX.1 alone has to be believed."""
    tensors = headers.load("lora-flux-2-klein-4b-attention").header.tensors
    assert probe(Header(tensors)).family == "flux-2"
    assert probe(Header(tensors), Hints(filename="flux_klein_look.safetensors")).family == "flux-2"
    assert probe(Header(tensors, {"ss_base_model_version": "flux1"})).family == "flux-1"


def test_a_lora_of_every_single_block_is_of_no_cut() -> None:
    tensors = {k: v for k, v in headers.load("lora-flux-diffusers").header.tensors.items() if ".single_" in k}
    assert probe(Header(tensors)).candidates == ("bria-fibo lora", "flux-1 lora")
    report = probe(Header(tensors, {"ss_base_model_version": "flux1"}))
    assert (report.family, report.variant) == ("flux-1", None)


@pytest.mark.parametrize(
    ("name", "family"), [("ltx-2-19b-ic-lora-depth", "ltx-2"), ("ltxv-13b-0.9.8-ic-lora-depth", "ltx-video")]
)
def test_layers_of_ltx_2_without_its_sound_go_to_the_one_that_is_named(name: str, family: str) -> None:
    header = headers.load("lora-ltx-2-video-alone").header
    assert probe(header, Hints(filename=f"{name}.safetensors")).family == family
