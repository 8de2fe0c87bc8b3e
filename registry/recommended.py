"""What a model's provider recommends, read from every place where people write it, best first.

The order (../README.md, "Where a recommended weight comes from"): header metadata, then the model card. The user's own setting, which
beats both, is applied later, in recipes.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from registry.cards import MAX_WEIGHT, Card, Recommendation, recommendations


def recommended(metadata: Mapping[str, str], card: Card) -> dict[str, Recommendation]:
    """`weight`, `steps`, `cfg`, `scheduler` -> Recommendation, for those that somebody states."""
    return {**recommendations(card), **_from_metadata(metadata)}


def triggers(metadata: Mapping[str, str], card: Card) -> list[str]:
    """Trigger words, from the first place that has any: modelspec.trigger_phrase, then the card's instance_prompt."""
    phrase = metadata.get("modelspec.trigger_phrase") or card.trigger or ""
    return [word.strip() for word in phrase.split(",") if word.strip()]


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
