"""What is this source? Held against the probes before a byte of weights is fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from probes import (
    REMOTE_PREFIX,
    TAKEN,
    Header,
    HeaderIncomplete,
    Hints,
    Outcome,
    Report,
    UnreadableModel,
    json_text,
    parse_header,
    probe,
)
from registry.cards import parse_card
from registry.errors import AmbiguousChoice, KindNotTaken, NotAsSaid, NotIdentified, NoWeights, UnusableFile
from registry.installs.beside import beside
from registry.installs.options import AS_USUAL, Options
from registry.installs.origins import Listing, Origin, RemoteFile
from registry.installs.origins.access import Access, Civitai
from registry.installs.selection import Selection, address, folder_from, options
from registry.settings import Settings
from registry.sidecars import base_models
from registry.words import NOTHING_SAID, Words, heard

LISTED = 40  # options whose headers are read: a collection of more must be asked for by file
PROBED_AT_ONCE = 4  # each takes a round trip or two
SMALL_FILE = 4 * 1024 * 1024  # bytes; no published config.json comes near it


@dataclass(frozen=True, slots=True)
class Candidate:
    """What an origin offers: the listing, the files that were chosen from it, and what their headers say, with the user's `words`."""

    listing: Listing
    selection: Selection
    report: Report
    words: Words


Remembered = Callable[[Listing, Selection], Words]


def examine(origin: Origin, wanted: Options = AS_USUAL, remembered: Remembered = lambda *_: NOTHING_SAID) -> Candidate:
    """Resolve, choose, and probe the headers. `remembered`: what the user has said of the same files before, each word of which counts
    where he says none now.

    Of several options the one that is taken decides; of several that are taken, the user does. Raises the origin's and selection's
    errors, UnreadableModel, and AmbiguousChoice and NoWeights with `candidates`: what each is.
    """
    listing = origin.listing()
    tiers = options(listing, partial(read_json, origin), wanted.variant)

    def words(selection: Selection) -> Words:
        return {**remembered(listing, selection), **wanted.words}

    seen: list[tuple[Selection, Report | UnreadableModel]] = []
    unseen = 0
    for tier in tiers:
        found = list(zip(tier, _probe_all(origin, listing, tier, words), strict=False))
        taken = [(s, r) for s, r in found if isinstance(r, Report) and _is_taken(r)]
        unseen = len(tier) - len(found)  # any of which may be what is meant
        if len(taken) == 1 and not unseen:
            return Candidate(listing, *taken[0], words(taken[0][0]))
        seen += taken or found
        if taken or unseen:
            break
    if len(tiers[0]) == 1 and not taken:  # what is wrong with it says more than that there is nothing else
        selection, report = seen[0]
        if isinstance(report, UnreadableModel):
            raise report
        return Candidate(listing, selection, report, words(selection))
    raise _undecided(listing, seen, sum(map(len, tiers)), unseen, any_taken=bool(taken))


def _probe_all(
    origin: Origin, listing: Listing, tier: list[Selection], words: Callable[[Selection], Words]
) -> list[Report | UnreadableModel]:
    """What each of the first LISTED is; those whose headers cannot be read, the reason."""

    def ask(selection: Selection) -> Report | UnreadableModel:
        try:
            return _probe_remote(origin, listing, selection, words(selection))
        except UnreadableModel as error:
            return error

    if len(tier) == 1:
        return [ask(tier[0])]
    with ThreadPoolExecutor(PROBED_AT_ONCE, thread_name_prefix="probe") as threads:
        return list(threads.map(ask, tier[:LISTED]))


def _is_taken(report: Report) -> bool:
    return report.outcome is Outcome.IDENTIFIED and report.kind in TAKEN and not report.excluded


def _undecided(
    listing: Listing,
    seen: list[tuple[Selection, Report | UnreadableModel]],
    count: int,
    unseen: int,
    *,
    any_taken: bool,
) -> Exception:
    candidates = [
        {
            "source": address(listing, selection),
            "size": selection.size,
            "report": report.as_dict()
            if isinstance(report, Report)
            else {"outcome": "unusable", "reason": str(report)},
        }
        for selection, report in seen
    ]
    label = listing.repo_id or listing.source
    what = [
        f"{c['source']} ({r.kind}, {r.family})"
        for c, (_, r) in zip(candidates, seen, strict=True)
        if isinstance(r, Report)
    ]
    names = ", ".join(what[:6]) + (" and more" if len(what) > 6 else "")
    if any_taken:
        more = f" and {unseen} more weight files that were not looked at" if unseen else ""
        return AmbiguousChoice(
            f"There are {len(candidates)} models{more} in {label}; name one of them: {names}.", candidates=candidates
        )
    but = f" among the first {LISTED}; {unseen} were not looked at: name one" if unseen else ""
    return NoWeights(
        f"None of the {count} weight files in {label} is a model that is taken{but}.", candidates=candidates
    )


def connection(settings: Settings, *, confined: bool = False) -> dict[str, Any]:
    """What open_origin needs of the settings. `confined`: to the folders that may be asked for over the network."""
    return {
        "endpoint": settings.hub_endpoint,
        "token": settings.hub_token,
        "timeout": settings.download_timeout,
        "folders": settings.reachable if confined else None,
        "access": Access(settings.allowed_hosts, settings.allowed_networks),
        "civitai": Civitai(settings.civitai_endpoint.rstrip("/"), settings.civitai_token),
    }


def _probe_remote(origin: Origin, listing: Listing, selection: Selection, words: Words) -> Report:
    """Probe what is not on disk yet; raises UnreadableModel for bytes that are no model."""
    hints = hints_for(origin, listing, selection, words)
    if not selection.is_folder:
        return probe(header_at(origin, selection.files[0]), hints)
    folder = folder_from(selection, partial(read_json, origin), partial(header_at, origin))
    return probe(folder, hints)


def header_at(origin: Origin, file: RemoteFile) -> Header:
    """The header of a file where it is, by one read as a rule. Raises UnreadableModel and the origin's errors."""
    prefix, wanted = b"", REMOTE_PREFIX
    while True:
        prefix += origin.read(file, len(prefix), wanted - len(prefix))
        try:
            return parse_header(prefix, file.size)
        except HeaderIncomplete as more:
            if len(prefix) < wanted:  # a read comes short only where the file ends
                raise UnreadableModel("truncated", f"{file.path} ends inside its header.") from more
            wanted = more.needed


def accept(report: Report) -> Report:
    """The report of a model that the registry takes; raises UnusableFile, NotAsSaid, NotIdentified or KindNotTaken for all others."""
    if report.outcome is Outcome.UNUSABLE:
        raise UnusableFile(report.reason)
    candidates = [choice._asdict() for choice in report.choices]
    if report.excluded:
        said = " and ".join(str(evidence.seen) for evidence in report.excluded)
        allowed = report.excluded[0].expected
        raise NotAsSaid(f"It was said to be {said}, but the shapes allow {allowed} alone.", candidates=candidates)
    if report.outcome is not Outcome.IDENTIFIED:
        raise NotIdentified(report.reason, outcome=str(report.outcome), candidates=candidates)
    if report.kind not in TAKEN:
        kind, taken = str(report.kind), ", ".join(TAKEN)
        article = "an" if kind[0] in "aeiou" else "a"
        raise KindNotTaken(f"This is {article} {kind.replace('_', ' ')}; modelshelf takes {taken}.", kind=kind)
    return report


def hints_for(origin: Origin, listing: Listing, selection: Selection, words: Words = NOTHING_SAID) -> Hints:
    said = hints_of(listing) if selection.is_folder else hints_of_file(origin, listing, selection.files[0].path)
    return heard(said, words)


def hints_of(listing: Listing) -> Hints:
    card = parse_card(listing.card)
    return Hints(repo_id=listing.repo_id, card=card.front, card_text=card.prose)


def hints_of_file(origin: Origin, listing: Listing, path: str) -> Hints:
    """With its name and what lies beside it."""
    said = base_models(beside(origin, listing, path))
    return replace(hints_of(listing), filename=PurePosixPath(path).name, sidecar=said)


def read_json(origin: Origin, file: RemoteFile) -> Mapping[str, Any]:
    """A small JSON file where it is. Raises UnreadableModel where it is none."""
    try:
        value = json_text.loads(origin.read(file, 0, SMALL_FILE))
    except ValueError as error:
        raise UnreadableModel("bad_config", f"{file.path} is not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise UnreadableModel("bad_config", f"{file.path} holds no JSON object.")
    return value
