"""What is known of a file on disk apart from its tensors: its header's metadata, and whatever lies beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from probes import Hints
from registry.cards import Card, parse_card
from registry.installs.origins.folder import card_beside
from registry.models import Digest, Statement, Trigger
from registry.recommended import claims, statements, triggers
from registry.sidecars import base_models, read_beside

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Beside:
    """`hints` help the probe; the rest is recorded with the model, and `claims` are digests that somebody else computed."""

    hints: Hints
    statements: tuple[Statement, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    claims: tuple[Digest, ...] = ()


MayRead = Callable[[Path], bool]
"""Whether what is at this path may be read, wherever links lead."""


class Look(Protocol):
    """From a model's path and its header's metadata. A reader of sidecars and cards is one of these; it must not raise."""

    def __call__(self, path: Path, metadata: Mapping[str, str], may_read: MayRead = ...) -> Beside: ...


def sidecars_and_card(path: Path, metadata: Mapping[str, str], may_read: MayRead = lambda _: True) -> Beside:
    """The header, what other programs left beside the file, and a README.md that is a model card. What cannot be read says nothing."""
    try:
        card, said = parse_card(card_beside(path, may_read)), read_beside(path, may_read)
    except Exception:  # whatever lies beside one model, the scan goes on
        _log.exception("what lies beside %s cannot be read", path)
        card, said = Card(), []
    return Beside(
        Hints(filename=path.name, card=card.front, card_text=card.prose, sidecar=base_models(said)),
        statements(metadata, card, said),
        tuple(triggers(metadata, card, said)),
        tuple(claims(metadata, said)),
    )
