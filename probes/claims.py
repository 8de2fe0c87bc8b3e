"""What names and metadata *say* about a family. A claim may choose between families whose shapes fit, never overrule a
shape."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probes.report import USER, Hints

_PONY = r"(?<![a-z])pony(?![-_ ]?tail)"
"""Not the hair, after which many LoRAs are called."""
# `^WORD$` is what a site or trainer states of a model's base in one word that is an ordinary one in a name.
# First match counts, so a derived model's name stands before the name it contains. Spellings: kohya
# ss_base_model_version, ModelSpec architectures, Hub ids of the published bases, Civitai's baseModel strings, A1111's
# "sd version".
_FAMILIES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (family, re.compile(pattern, re.IGNORECASE))
    for family, pattern in (
        ("ic-light", r"\bic[-_ ]?light"),
        ("zero123", r"zero[-_ ]?123"),
        ("svd", r"stable-video|\bsvd[-_ ]xt"),
        ("zeroscope", r"zeroscope"),
        ("koala", r"\bkoala[-_ ]?(700m|1b|lightning)"),
        ("ssd-1b", r"\bssd[-_ ]?1b\b"),
        ("segmind-vega", r"segmind[-_/ ]*vega|\bvegart\b"),
        ("kolors", r"\bkolors\b"),
        ("sdxl-refiner", r"(xl|sdxl)[-_ a-z0-9.]*refiner"),
        ("auraflow", r"(?<![a-z])pony[-_ ]?(diffusion[-_ ]?)?v7(?!\d)"),
        ("sdxl", rf"sdxl|stable-diffusion-xl|\bxl[-_]base|{_PONY}|illustrious|noobai|animagine|playground-v2"),
        ("sd-3", r"stable-diffusion-3|stable-diffusion-v3|\bsd[-_ .v]*3(?!\d|d\b)|\bsd35"),
        (
            "sd-2",
            r"stable-diffusion-2|stable-diffusion-v2|\bsd[-_ .v]*2([._ -]?[01])?(?![0-9a-z]|\.\d)"
            r"|\bv2-[01] (512|768)|waifu-diffusion-1-[45]",
        ),
        ("sd-1", r"stable-diffusion-v1|\bsd[-_ .v]*1([._ -]?[45])?(?![0-9a-z])|\bsdv1-?5|dreamshaper-?[78]|\bsd15\b"),
        ("chroma", r"\bchroma[-_ ]?(1|hd|unlocked|radiance)(?![a-z])"),
        ("longcat-image", r"longcat[-_ ]?image"),
        ("ovis-image", r"ovis[-_ ]?image"),
        ("bria-fibo", r"\bfibo\b"),
        ("flux-3", r"\bflux[-_. ]?3(?![\da-z])"),
        ("flux-2", r"flux[-_. ]?2"),
        ("flux-1", r"flux|\bflex[-_. ]?[12](?!\d)"),
        ("chroma", r"\bchroma(?![-_ ]?key)\b"),  # beside "flux", a word of ordinary English
        ("qwen-image-2.1", r"qwen[-_ ]?image[-_ ]?2[-_. ]1(?!\d)"),
        ("qwen-image", r"qwen[-_ ]?image|^qwen$"),
        ("z-image", r"z[-_ ]?image"),
        ("wan", r"\bwan[-_ ]?(2|ai|video|\b)"),
        ("hunyuan-video-1.5", r"hunyuan[-_ ]?video[-_ ]?v?1[-_. ]5"),
        ("hunyuan-video", r"hunyuan[-_ ]?video|framepack"),
        ("hunyuan-image", r"hunyuan[-_ ]?image"),
        ("hunyuan-dit", r"hunyuan[-_ ]?dit|^hunyuan 1$"),
        ("pixart-sigma", r"pixart[-_ ]?(sigma|Σ)|^pixart e$"),
        ("pixart-alpha", r"pixart[-_ ]?(alpha|α|xl)|^pixart a$"),
        ("lumina-2", r"lumina[-_ ]?(image[-_ ]?)?2|^lumina$"),
        ("auraflow", r"aura[-_ ]?flow"),
        ("ltx-2", r"\bltxv?[-_ ]?2(?!\d|b)"),
        ("ltx-video", r"\bltx"),
        ("cogview4", r"cogview[-_ ]?4"),
        ("glm-image", r"glm[-_ ]?image"),
        ("cosmos", r"\bcosmos[-_ ]?(predict|transfer|[12])"),
        ("hidream-o1", r"hidream[-_ ]?o1(?!\d)"),
        ("hidream", r"hidream"),
        ("ernie-image", r"ernie[-_ ]?image|^ernie( turbo)?(/|$)"),
        ("joyai-image", r"\bjoy(ai)?[-_ ]?image(?![a-z])"),
        ("boogu-image", r"boogu[-_ ]?image|^boogu$"),
        ("longcat-video", r"longcat[-_ ]?video"),
        ("lingbot-video", r"lingbot[-_ ]?video"),
        ("minimax-h3", r"minimax[-_ ]?h3(?!\d)"),
        ("anima", r"\banima\b"),
        ("krea-2", r"\bkrea[-_ ]?2(?!\d)"),
        ("ideogram-4", r"\bideogram[-_ ]?(v)?4(?!\d)|^ideogram(/|$)"),
        ("kandinsky-5", r"\bkandinsky[-_ ]?5(?!\d)"),
        ("omnigen-2", r"\bomnigen[-_ ]?2(?!\d)"),
        ("sana", r"\bsana[-_ ]?(sprint|1\.5|0\.6b|[146]\.[68]b|\d{3,4}m)|^sana(/|$)"),
        ("cogvideox", r"\bcog[-_ ]?video"),
        ("mochi", r"\bmochi[-_ ]?1(?!\d)|^mochi$"),
    )
)

TAGS: Mapping[str, re.Pattern[str]] = {
    tag: re.compile(pattern, re.IGNORECASE)
    for tag, pattern in {
        "pony": _PONY,
        "illustrious": r"illustrious|(?<![a-z])ilxl(?![a-z])",
        "noobai": r"noob[-_ ]?ai",
    }.items()
}
"""Sub-families of SDXL: the shapes are SDXL's own, so only names tell, and a tag is all that they get."""

READ = 1_000
"""Characters of a text that are read, many times those of a name: searching takes the square of the time for a longer one."""
NAMES = ("repository", "file name")
"""Sources that are what somebody called the model, and not where its base is stated."""
METADATA_KEYS = ("modelspec.architecture", "ss_base_model_version")
SIDECAR_KEYS = ("sd version", "baseModel", "base_model", "BaseModel")


@dataclass(frozen=True, slots=True)
class Claim:
    """`source`: where it stands; `said`: the words; `family`: how they are understood."""

    family: str
    source: str
    said: str


def family_of(text: str) -> str | None:
    """The family that a name means, or None."""
    text = _words(text)
    return next((family for family, pattern in _FAMILIES if pattern.search(text)), None)


def tellings(text: str) -> Iterator[re.Match[str]]:
    """The places in a text where some family can be read; family_of() says the same of their words as of the whole."""
    text = _words(text)
    return (hit for _, pattern in _FAMILIES for hit in pattern.finditer(text))


def _words(text: str) -> str:
    """Its beginning, with spaces for underscores, which regular expressions count as letters: at the same places."""
    return text[:READ].replace("_", " ")


def texts(value: Any) -> tuple[str, ...]:
    """The strings in a card's or sidecar's value, whatever it is: people write one, a list, or something else."""
    if isinstance(value, str):
        return (value,)
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, (list, tuple)) else ()


def claims_of(metadata: Mapping[str, str], hints: Hints) -> tuple[Claim, ...]:
    """All claims, the most trustworthy first: the user's word, the trainer's metadata, the card's base_model, sidecars, then
    names."""
    found = [Claim(hints.family, USER, hints.family)] if hints.family else []
    for source, said in sayings(metadata, hints):
        family = family_of(said)
        if family is not None:
            found.append(Claim(family, source, said if len(said) <= 120 else said[:117] + "..."))
    return tuple(found)


def foremost(claims: Sequence[Claim], families: Collection[str | None]) -> tuple[Claim, ...]:
    """Of claims, the most trustworthy first, those on one of these families by the first source that has any: weaker
    sources are not asked."""
    among = [claim for claim in claims if claim.family in families]
    return tuple(claim for claim in among if claim.source == among[0].source)


def sayings(metadata: Mapping[str, str], hints: Hints) -> Iterator[tuple[str, str]]:
    """Where something may be said of a model's base, and the words there; the most trustworthy first."""
    for key in METADATA_KEYS:
        if metadata.get(key):
            yield key, metadata[key]
    if metadata.get("ss_v2", "").lower() in ("true", "false"):
        yield "ss_v2", "sd-2" if metadata["ss_v2"].lower() == "true" else ""
    card = hints.card or {}
    for base in texts(card.get("base_model")):
        yield "card base_model", base
    for key in SIDECAR_KEYS:
        for said in texts((hints.sidecar or {}).get(key)):
            yield f"sidecar {key}", said
    for source, name in zip(NAMES, (hints.repo_id, hints.filename), strict=True):
        if name:
            yield source, name
