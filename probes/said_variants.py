"""Variants with another one's very tensors: what a pipeline's class, metadata or names say of them. No shape is overruled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from probes.claims import READ
from probes.report import Evidence
from probes.wording import shortened

_PICTURE_PROMPTS = r"paint[-_ ]?by[-_ ]?example|sd[-_ ]image[-_ ]variations|StableDiffusionImageVariation"
_SAID: Mapping[tuple[str | None, str | None], tuple[tuple[str, re.Pattern[str]], ...]] = {
    like: tuple((variant, re.compile(pattern, re.IGNORECASE)) for variant, pattern in said.items())
    for like, said in {
        ("flux-1", "dev"): {"kontext": r"kontext"},
        ("qwen-image", None): {"edit": r"qwen[-_ ]?image[-_ ]?edit"},
        ("sd-1", "inpaint"): {"image-prompt": _PICTURE_PROMPTS},
        ("sd-1", "normal"): {"image-prompt": _PICTURE_PROMPTS, "rgb-d": r"ldm3d"},
    }.items()
}
"""Family and variant by their shapes -> what these may be instead, and the words that say so: names of the published repositories, and of
diffusers' pipelines for them."""


def said_variant(
    family: str | None, variant: str | None, sayings: Iterable[tuple[str, str]]
) -> tuple[str | None, tuple[Evidence, ...]]:
    """The variant, and what tells it if not the shapes. `sayings`: where each stands, and its words; the first that tells counts."""
    among = _SAID.get((family, variant), ())
    for source, words in sayings if among else ():
        for said, pattern in among:
            if pattern.search(words[:READ]):
                return said, (Evidence("named", True, source, said, shortened(words)),)
    return variant, ()
