"""Variants that have another one's very tensors: told by a pipeline's class, metadata or names, and by them alone."""

from __future__ import annotations

import pytest

from probes import Folder, Header, Hints, probe
from tests.probes import headers


@pytest.mark.parametrize(
    ("fixture", "hints", "variant"),
    [
        ("flux-1-dev-bfl", Hints(filename="flux1-dev-kontext_fp8_scaled.safetensors"), "kontext"),
        ("flux-1-dev-diffusers", Hints(repo_id="black-forest-labs/FLUX.1-Kontext-dev"), "kontext"),
        ("flux-1-dev-bfl", Hints(card={"base_model": "black-forest-labs/FLUX.1-Kontext-dev"}), "kontext"),
        ("flux-1-dev-bfl", Hints(repo_id="black-forest-labs/FLUX.1-dev"), "dev"),
        ("flux-1-schnell-bfl", Hints(filename="kontext.safetensors"), "schnell"),
        ("flux-1-fill-bfl", Hints(filename="kontext.safetensors"), "fill"),
        ("qwen-image-diffusers", Hints(filename="qwen_image_edit_2509_bf16.safetensors"), "edit"),
        ("qwen-image-diffusers", Hints(filename="qwen_image_bf16.safetensors"), None),
        ("unet-sd-1-inpaint-diffusers", Hints(repo_id="Fantasy-Studio/Paint-by-Example"), "image-prompt"),
        ("unet-sd-1-diffusers", Hints(repo_id="lambdalabs/sd-image-variations-diffusers"), "image-prompt"),
        ("unet-sd-1-diffusers", Hints(filename="image variations of cats.safetensors"), "normal"),
        ("unet-sdxl-diffusers", Hints(filename="ldm3d.safetensors"), "normal"),
    ],
)
def test_words_choose_among_variants_of_the_same_shapes(fixture: str, hints: Hints, variant: str | None) -> None:
    report = probe(headers.load(fixture).header, hints)
    assert report.variant == variant
    said = [evidence.expected for evidence in report.evidence if evidence.rule == "named"]
    assert said == ([variant] if variant in ("kontext", "edit", "image-prompt") else [])


def test_metadata_tell_it_too() -> None:
    header = headers.load("flux-1-dev-bfl").header
    said = Header(header.tensors, metadata={"modelspec.architecture": "flux-1-kontext-dev"})
    assert probe(said).variant == "kontext"


@pytest.mark.parametrize(("pipeline", "variant"), [("FluxKontextPipeline", "kontext"), ("FluxPipeline", "dev")])
def test_a_pipelines_class_tells_it(pipeline: str, variant: str) -> None:
    header = headers.load("flux-1-dev-diffusers").header
    assert probe(Folder({"_class_name": pipeline}, {}, {"transformer": header})).variant == variant
