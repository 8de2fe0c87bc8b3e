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
