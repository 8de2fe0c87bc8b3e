"""What a model's provider recommends, read from every place where people write it, best first.

The order (../README.md, "Where a recommended weight comes from"): header metadata, then the model card. The user's own setting, which
beats both, is applied later, in recipes.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from registry.cards import MAX_WEIGHT, Card, Recommendation, recommendations
from registry.models import Statement, Trigger


def recommended(metadata: Mapping[str, str], card: Card) -> dict[str, Recommendation]:
    """`weight`, `steps`, `cfg`, `scheduler` -> Recommendation, for those that somebody states."""
    return {**recommendations(card), **_from_metadata(metadata)}


def statements(metadata: Mapping[str, str], card: Card) -> tuple[Statement, ...]:
    """The recommended values, and what the card says that the model was made from."""
    said = [
        Statement(name, r.value, r.by, r.quote, r.minimum, r.maximum)
        for name, r in sorted(recommended(metadata, card).items())
    ]
    if card.base_model:
        said.append(Statement("base_model", card.base_model, "model card"))
    return tuple(said)


def triggers(metadata: Mapping[str, str], card: Card) -> list[Trigger]:
    """Trigger words, from the first place that has any: modelspec.trigger_phrase, then the card's instance_prompt."""
    places = (("file header", metadata.get("modelspec.trigger_phrase")), ("model card", card.trigger))
    by, phrase = next((place for place in places if place[1]), ("", ""))
    return [Trigger(word.strip(), by) for word in (phrase or "").split(",") if word.strip()]


def _from_metadata(metadata: Mapping[str, str]) -> dict[str, Recommendation]:
    """`modelspec.lora_default_weight` is SwarmUI's addition to ModelSpec, which has no key of its own for it."""
    key = "modelspec.lora_default_weight"
    try:
        weight = float(metadata[key])
    except (KeyError, ValueError):
        return {}
    return (
        {"weight": Recommendation(weight, "file header", f"{key}={metadata[key]}")} if 0 < weight <= MAX_WEIGHT else {}
    )
