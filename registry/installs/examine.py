"""What is this source? Held against the probes before a byte of weights is fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
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
    parse_header,
    probe,
)
from registry.cards import parse_card
from registry.errors import KindNotTaken, NotIdentified, UnusableFile
from registry.installs.origins import Listing, Origin, RemoteFile, open_origin
from registry.installs.origins.access import Access
from registry.installs.selection import INDEX, Selection, folder_from, select
from registry.settings import Settings
from registry.sources import PathSource, parse_source

SMALL_FILE = 4 * 1024 * 1024  # bytes; no published config.json comes near it


@dataclass(frozen=True, slots=True)
class Candidate:
    """What an origin offers: the listing, the files that were chosen from it, and what their headers say. `header`: of a single file."""

    listing: Listing
    selection: Selection
    report: Report
    header: Header | None = None


def examine(origin: Origin) -> Candidate:
    """Resolve, choose, and probe the headers. Raises the origin's and selection's errors, and UnreadableModel."""
    listing = origin.listing()
    selection = select(listing, lambda file: _read_json(origin, file))
    return _probe_remote(origin, listing, selection)


def probe_source(text: str, settings: Settings) -> Report:
    """Of a file, folder, URL or repository, reading headers only. Raises UnreadableModel and the errors of sources and origins."""
    source = parse_source(text, endpoint=settings.hub_endpoint)
    with open_origin(source, **connection(settings)) as origin:
        if isinstance(source, PathSource) and _is_one_model(source.path):
            card = parse_card(origin.listing().card)
            return probe(source.path, Hints(filename=source.path.name, card=card.front, card_text=card.prose))
        return examine(origin).report


def _is_one_model(path: Path) -> bool:
    """A file, or a folder that is one model; any other folder is looked through as a repository would be."""
    return path.is_file() or any((path / name).is_file() for name in (INDEX, "adapter_config.json", "config.json"))


def connection(settings: Settings) -> dict[str, Any]:
    """What open_origin needs of the settings."""
    return {
        "endpoint": settings.hub_endpoint,
        "token": settings.hub_token,
        "timeout": settings.download_timeout,
        "access": Access(settings.allowed_hosts, settings.allowed_networks),
    }


def _probe_remote(origin: Origin, listing: Listing, selection: Selection) -> Candidate:
    """Probe what is not on disk yet; raises UnreadableModel for bytes that are no model."""

    def header(file: RemoteFile) -> Header:
        length = REMOTE_PREFIX
        while True:
            prefix = origin.read(file, 0, length)
            try:
                return parse_header(prefix, file.size)
            except HeaderIncomplete as more:
                if len(prefix) < length:
                    raise UnreadableModel(
                        "truncated", f"{file.path} ends inside its header; download it again."
                    ) from more
                length = more.needed

    if not selection.is_folder:
        only = header(selection.files[0])
        return Candidate(listing, selection, probe(only, hints_for(listing, selection)), only)
    folder = folder_from(selection, lambda file: _read_json(origin, file), header)
    return Candidate(listing, selection, probe(folder, hints_for(listing, selection)))


def accept(report: Report) -> Report:
    """The report of a model that the registry takes; raises UnusableFile, NotIdentified or KindNotTaken for all others."""
    if report.outcome is Outcome.UNUSABLE:
        raise UnusableFile(report.reason)
    if report.outcome is not Outcome.IDENTIFIED:
        raise NotIdentified(report.reason, outcome=str(report.outcome), candidates=list(report.candidates))
    if report.kind not in TAKEN:
        taken = ", ".join(sorted(TAKEN))
        raise KindNotTaken(
            f"This is a {report.kind} ({report.family}); modelshelf takes {taken}.", kind=str(report.kind)
        )
    return report


def hints_for(listing: Listing, selection: Selection) -> Hints:
    card = parse_card(listing.card)
    filename = None if selection.is_folder else PurePosixPath(selection.files[0].path).name
    return Hints(repo_id=listing.repo_id, filename=filename, card=card.front, card_text=card.prose)


def _read_json(origin: Origin, file: RemoteFile) -> Mapping[str, Any]:
    try:
        value = json.loads(origin.read(file, 0, SMALL_FILE))
    except ValueError as error:
        raise UnreadableModel("bad_config", f"{file.path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnreadableModel("bad_config", f"{file.path} holds no JSON object.")
    return value
