"""Fixtures that are published files, name by name and shape by shape.

DiffSynth-Studio (diffsynth/configs, fed7b18 and before) knows the files that it loads by a digest of their tensors' names
and shapes, taken from the files themselves. A fixture with a file's digest has exactly its header.
"""

from __future__ import annotations

from hashlib import md5

import pytest

from tests.probes import headers

PUBLISHED = {
    # fixture -> (what stands before its names in the file, the digest)
    "anima": ("", "417673936471e79e31ed4d186d7a3f4a"),
    "boogu-image": ("", "8e29d2d28b83530320ae1d2c5eb323b3"),
    "controlnet-qwen-blockwise": ("", "073bce9cf969e317e5662cd570c3e79c"),
    "ernie-image-diffusers": ("", "584c13713849f1af4e03d5f1858b8b7b"),
    "flux-1-dev-bfl": ("", "a29710fea6dddb0314663ee823598e50"),
    "flux-1-dev-comfy": ("", "3394f306c4cbf04334b712bf5aaed95f"),
    "flux-1-dev-diffusers": ("", "605c56eab23e9e2af863ad8f0813a25d"),
    "flux-1-fill-bfl": ("", "f876d2a6fb247fb7da0f84fc7fb8a823"),
    "flux-1-flex-2-bfl": ("", "d02f41c13549fa5093d3521f62a5570a"),
    "flux-1-schnell-bfl": ("", "57b02550baab820169365b3ee3afa2c9"),
    "flux-2-dev-diffusers": ("", "d38e1d5c5aec3b0a11e79327ac6e3b0f"),
    "flux-2-klein-4b-diffusers": ("", "3bde7b817fec8143028b6825a63180df"),
    "flux-2-klein-9b-diffusers": ("", "39c6fc48f07bebecedbbaa971ff466c8"),
    "hidream-o1": ("", "58a7c1073d79556bfc61e05e6061b771"),
    "hunyuan-dit-1.1-original": ("", "f4aec400fe394297961218c768004521"),
    "ideogram-4": ("", "291b300b11c8c8e11978bd85a9c5f80c"),
    "joyai-image": ("", "56592ddfd7d0249d3aa527d24161a863"),
    "krea-2": ("", "2a05e69084a6d608516ee47c8ad03334"),
    "krea-2-diffusers": ("", "cddb3118d9f8250bf7b08c331c5c55aa"),
    "lingbot-video-dense": ("", "2bcf511fe5e0000519394d242b4d8abd"),
    "lingbot-video-moe": ("", "65b83aa625cd362ff5ff3409fb367a6f"),
    "longcat-video": ("", "8b27900f680d7251ce44e2dc8ae1ffef"),
    "ltx-2-original": ("", "c567aaa37d5ed7454c73aa6024458661"),
    "minimax-h3": ("", "db0197b6919425a5c7102c54e73affc1"),
    "minimax-h3-pruned": ("", "b4e0df87da0c079979ae857edbcef49f"),
    "qwen-image-diffusers": ("", "0319a1cb19835fb510907dd3367c95ff"),
    "text-encoder-clip-l": ("", "94eefa3dac9cec93cb1ebaf1747d7b78"),
    "text-encoder-clip-l-5": ("text_model.", "94eefa3dac9cec93cb1ebaf1747d7b78"),
    "unet-kolors-diffusers": ("", "52817e4fdd89df154f02749ca6f692ac"),
    "unet-sd-1-diffusers": ("", "025a4b86a84829399d89f613e580757b"),
    "unet-sd-1-ldm": ("model.diffusion_model.", "3926bf373b39a67eeafd7901478a47a7"),
    "unet-sdxl-diffusers": ("", "142b114f67f5ab3a6d83fb5788f12ded"),
    "unet-sdxl-ldm": ("model.diffusion_model.", "298997b403a4245c04102c9f36aac348"),
    "upscaler-latent": ("", "aed408774d694a2452f69936c32febb5"),
    "vae-16-diffusers": ("", "1aafa3cc91716fb6b300cc1cd51b85a3"),
    "vae-diffusers": ("", "13115dd45a6e1c39860f91ab073b8a78"),
    "vae-hunyuan-video-diffusers": ("", "aeb82dce778a03dcb4d726cb03f3c43f"),
    "vae-wan-diffusers": ("", "ed4ea5824d55ec3107b09815e318123a"),
    "wan-14b-diffusers": ("", "cb104773c6c2cb6df4f9529ad5c60d0b"),
    "wan-14b-i2v-original": ("", "6bfcfb3b342cb286ce886889d519a77e"),
    "wan-14b-original": ("", "aafcfd9672c3a2456dc46e1cb6e52c70"),
    "wan-animate": ("", "31fa352acb8a1b1d33cd8764273d80a2"),
    "wan-animate-2": ("", "4536c21ad8740ba78367af4216ae85bf"),
    "wan-camera": ("", "b61c605c2adbd23124d152ed28e049ae"),
    "wan-s2v": ("", "966cffdcc52f9c46c391768b27637614"),
    "z-image-diffusers": ("", "fc3a8a1247fe185ce116ccbe0e426c28"),
    "z-image-omni-diffusers": ("", "aa3563718e5c3ecde3dfbb020ca61180"),
}


PICKLES = {
    # fixture -> the digest of a pickle that holds each part of the names before the first dot as a dictionary of its own
    "ip-adapter-flux-instantx": "4daaa66cc656a8fe369908693dad0a35",
    "ip-adapter-sd-1": "e291636cc15e803186b47404262ef812",
    "ip-adapter-sdxl": "a64eac9aa0db4b9602213bc0131281c7",
}


def words(shapes: dict[str, tuple[int, ...]]) -> str:
    """Every name, alone and with its shape, in order."""
    found = [word for name, shape in shapes.items() for word in (name, f"{name}:{'_'.join(map(str, shape))}")]
    return ",".join(sorted(found))


def digest(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("name", PUBLISHED)
def test_fixture_has_the_tensors_of_the_published_file(name: str) -> None:
    prefix, published = PUBLISHED[name]
    tensors = headers.load(name).tensors
    assert digest(words({prefix + key: tuple(shape) for key, (_, shape) in tensors.items()})) == published


@pytest.mark.parametrize("name", PICKLES)
def test_fixture_has_the_tensors_of_the_published_pickle(name: str) -> None:
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, (_, shape) in headers.load(name).tensors.items():
        part, _, rest = key.partition(".")
        parts.setdefault(part, {})[rest] = tuple(shape)
    assert digest(",".join(sorted(f"{part}|{words(shapes)}" for part, shapes in parts.items()))) == PICKLES[name]
