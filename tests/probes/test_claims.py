"""Names that people give their files, and the family that they mean."""

from __future__ import annotations

import pytest

from probes import Hints, probe
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
        ("swan_lake", None),
    ],
)
def test_words_are_read_whole_whatever_joins_them(name: str, family: str | None) -> None:
    assert family_of(name) == family


def test_layers_that_two_families_share_go_to_the_one_that_is_named() -> None:
    header = headers.load("lora-flux-diffusers").header
    plain = probe(header)
    assert plain.family == "flux-1"
    assert "not said to be chroma" in plain.reason
    assert probe(header, Hints(filename="my_chroma_style.safetensors")).family == "chroma"


@pytest.mark.parametrize(
    ("name", "family"), [("ltx-2-19b-ic-lora-depth", "ltx-2"), ("ltxv-13b-0.9.8-ic-lora-depth", "ltx-video")]
)
def test_layers_of_ltx_2_without_its_sound_go_to_the_one_that_is_named(name: str, family: str) -> None:
    header = headers.load("lora-ltx-2-video-alone").header
    assert probe(header, Hints(filename=f"{name}.safetensors")).family == family
