"""What a user says of a model that its header may leave open: its family, and whether a LoRA is an LCM-LoRA. The probe takes it for the
most trustworthy of hints (probes.Hints); it is kept with an install's options, and as the user's own settings of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from registry.errors import InvalidRequest

if TYPE_CHECKING:
    from probes import Hints

WORDS = ("family", "kind")
Words = Mapping[str, str]
NOTHING_SAID: Words = MappingProxyType({})


def words_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Those among some settings; one that is None is none."""
    return {name: settings[name] for name in WORDS if settings.get(name) is not None}


def check_words(words: Words) -> None:
    """Raises InvalidRequest for what no model is, with the nearest that some are."""
    if not words:
        return
    from difflib import get_close_matches  # not for the client, which only hands words on

    from probes import TAKEN
    from probes.claims import family_of
    from probes.families import NAMES

    family, kind = words.get("family"), words.get("kind")
    if family is not None and family not in NAMES:
        meant = family_of(family)
        near = [*dict.fromkeys([*([meant] if meant else []), *get_close_matches(family.casefold(), NAMES, 3, 0.5)])]
        advice = f"The nearest: {', '.join(near)}." if near else f"There are {', '.join(NAMES)}."
        raise InvalidRequest(f"There is no family “{family}”. {advice}", field="family", nearest=near)
    if kind is not None and kind not in TAKEN:
        raise InvalidRequest(f"kind is {kind}; it can be said to be {' or '.join(TAKEN)}.", field="kind")


def heard(hints: Hints, words: Words) -> Hints:
    return replace(hints, family=words.get("family"), kind=words.get("kind")) if words else hints
