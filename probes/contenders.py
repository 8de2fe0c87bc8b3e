"""Which network an adapter was made for, of several whose layers it fits: the one of whose layers it leaves none out.

A smaller network's layers are often a larger one's first blocks (FLUX.2 klein's are FLUX.1's, SSD-1B's are SDXL's), and
trainers adapt a sort of layer in every block. An adapter of a few blocks tells nothing of the kind: all stay. So does
the network that the user, the trainer's metadata or the card says, which may be a cut of the one we know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from probes.adapter_rules import Covers, Fits
from probes.claims import NAMES, foremost
from probes.report import USER, Evidence
from probes.signature import Signature
from probes.subject import Subject

_LUMPED: Mapping[str | None, str] = {"ssd-1b": "sdxl", "segmind-vega": "sdxl", "koala": "sdxl"}
"""What trainers write of a network that was cut from another: the other's name (ai-toolkit: sdxl_1.0)."""


class Matching(Protocol):
    """A signature that holds: a probe's match, or a trial of all its rules."""

    @property
    def signature(self) -> Signature: ...


M = TypeVar("M", bound=Matching)


def covering(signature: Signature) -> Covers | None:
    """That an adapter leaves out none of the signature's layers, if it is one for layers of a known network."""
    return next((Covers(rule.architecture) for rule in signature.rules if isinstance(rule, Fits)), None)


def contest(matches: Sequence[M], subject: Subject) -> tuple[list[M], list[tuple[M, Evidence]]]:
    """What there is to choose from; and what another network's covering rules out, with the first layer that the adapter
    would lack."""
    rules = [covering(match.signature) for match in matches]
    networks = {(match.signature.family, match.signature.variant) for match in matches}
    if len(networks) < 2 or None in rules:
        return list(matches), []
    judged = [(match, rule.check(subject)) for match, rule in zip(matches, rules, strict=True) if rule is not None]
    covered = {match.signature.family for match, evidence in judged if evidence.ok}
    if not covered:
        return list(matches), []
    stated = [claim for claim in subject.claims if claim.source not in NAMES]
    said = foremost(stated, {match.signature.family for match in matches})
    lumped = {_LUMPED.get(family) for family in covered}
    kept = {claim.family for claim in said if claim.source == USER or claim.family not in lumped} - covered
    return (
        [match for match, evidence in judged if evidence.ok or match.signature.family in kept],
        [pair for pair in judged if not (pair[1].ok or pair[0].signature.family in kept)],
    )
