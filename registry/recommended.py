"""What is said of a model, from every place where people write it, best first: the one place that knows the order.

Recommended values and trigger words: sidecars, in the order of sidecars.KINDS (what the user typed into another program comes first), then
the file's header, then the model card. Facts: the header, the card, then sidecars, whose base model is only a family's name. The user's own
setting here, which beats all, is applied later, in recipes.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from registry.cards import MAX_WEIGHT, Card, recommendations
from registry.models import RECIPE, Digest, Statement, Trigger
from registry.sidecars import Said

# modelspec key -> name of the fact
_HEADER_FACTS = {
    "modelspec.title": "title",
    "modelspec.author": "author",
    "modelspec.license": "license",
    "modelspec.description": "description",
    "ss_output_name": "output_name",  # kohya's trainer: the name that it was saved under, which prompts may call it by
}

_HEADER_PROSE = (
    "modelspec.usage_hint",
    "modelspec.description",
)  # https://github.com/Stability-AI/ModelSpec: for people
_PROSE = 20_000  # characters of each that are read; a header may have 100 MB


def statements(metadata: Mapping[str, str], card: Card, sidecars: Sequence[Said] = ()) -> tuple[Statement, ...]:
    """Everything that is said, of one name the one that counts first; the same value of the same name once."""
    said = [statement for sidecar in sidecars for statement in sidecar.statements]
    recipe = (*_from_metadata(metadata), *(s for _, s in sorted(recommendations(card).items())))
    header = [
        Statement(name, value.strip(), "file header", key)
        for key, name in _HEADER_FACTS.items()
        if (value := metadata.get(key, "")[:_PROSE]).strip()
    ]
    values = [s for s in said if s.name in RECIPE]
    facts = [s for s in said if s.name not in RECIPE]
    return tuple(_distinct([*values, *recipe, *header, *_from_front_matter(card), *facts]))


def triggers(metadata: Mapping[str, str], card: Card, sidecars: Sequence[Said] = ()) -> list[Trigger]:
    """Trigger words, from the first place that has any: sidecars, modelspec.trigger_phrase, the card's instance_prompt."""
    if beside := next((sidecar.triggers for sidecar in sidecars if sidecar.triggers), None):
        return list(beside)
    places = (("file header", metadata.get("modelspec.trigger_phrase")), ("model card", card.trigger))
    by, phrase = next((place for place in places if place[1]), ("", ""))
    return [Trigger(word.strip(), by) for word in (phrase or "").split(",") if word.strip()]


# The SHA-256 of the tensor bytes, as trainers write it into the header; sshs_legacy_hash is of a file with another header.
_CLAIMED = ("sshs_model_hash", "modelspec.hash_sha256")
_DIGEST = re.compile(r"[0-9a-f]{8,64}")


def claims(metadata: Mapping[str, str], sidecars: Sequence[Said] = ()) -> Iterator[Digest]:
    """Digests that a safetensors header and sidecars state: not proof, and often wrong (some trainers wrote that of the empty string)."""
    for key in _CLAIMED:
        value = metadata.get(key, "").lower().removeprefix("0x")
        if _DIGEST.fullmatch(value):
            yield Digest("autov3", value, f"file header, {key}")
    for sidecar in sidecars:
        yield from sidecar.claims


def _distinct(said: Iterable[Statement]) -> Iterator[Statement]:
    seen = set[tuple[str, str]]()
    for statement in said:
        key = (statement.name, str(statement.value))
        if key not in seen:
            seen.add(key)
            yield statement


def _from_front_matter(card: Card) -> list[Statement]:
    """base_model, license, and the title, which Hub cards give as model_name."""
    found = [Statement("base_model", card.base_model, "model card")] if card.base_model else []
    for key, name in (("license", "license"), ("model_name", "title"), ("author", "author"), ("thumbnail", "preview")):
        value = card.front.get(key)
        if isinstance(value, str) and value.strip():
            found.append(Statement(name, value.strip(), "model card"))
    return found


def _from_metadata(metadata: Mapping[str, str]) -> Iterator[Statement]:
    """`modelspec.lora_default_weight` is SwarmUI's addition to ModelSpec, which has no key of its own for it."""
    key = "modelspec.lora_default_weight"
    with suppress(KeyError, ValueError):
        if 0 < (weight := float(metadata[key])) <= MAX_WEIGHT:
            yield Statement("weight", weight, "file header", f"{key}={metadata[key]}")
    for key in _HEADER_PROSE:
        yield from (
            said
            for _, said in sorted(recommendations(Card(prose=metadata.get(key, "")[:_PROSE]), "file header").items())
        )
