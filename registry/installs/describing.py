"""What is said of a download besides its tensors: the records that lie beside it, its source's own, and the picture that shows it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from probes import read_header
from registry.cards import Card, parse_card
from registry.errors import Cancelled, ModelshelfError
from registry.installs.beside import beside
from registry.installs.origins import Informed, Listing, Origin
from registry.installs.selection import Selection
from registry.models import BESIDE, PICTURE, Statement
from registry.previews import MAX_BYTES, Previews
from registry.sidecars import PREVIEWS, Said, of_civitai, read_beside
from registry.sources import HubSource, parse_source
from registry.weights.files import adapter_file


@dataclass(slots=True)
class Described:
    """`said`: by whom, best first. `notes`: for people, what could not be had. Nothing of it is needed for an install."""

    said: list[Said] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def describe(
    origin: Origin,
    listing: Listing,
    selection: Selection,
    staged: Path,
    sha256: str | None,
    previews: Previews,
    hub: str,
) -> Described:
    """Raises Cancelled. `staged`: the whole download. `sha256`: of a model that is one file. `hub`: the Hub's address."""
    found = Described(read_beside(staged) if selection.is_folder else beside(origin, listing, selection.files[0].path))
    if sha256 and isinstance(origin, Informed) and (record := _ask(partial(origin.told_of, sha256), found, "Civitai")):
        found.said.append(of_civitai(record, "Civitai"))
    for by, fetch in _pictures(origin, listing, selection, staged, found.said, hub):
        if (picture := _ask(partial(_keep, previews, fetch), found, f"Its preview ({by})")) is not None:
            found.said.append(Said((Statement(PICTURE, picture, by),)))
            break
    return found


def _keep(previews: Previews, fetch: Callable[[], bytes]) -> str:
    return previews.store(fetch())


def _ask(question: Callable[[], Any], found: Described, what: str) -> Any:
    """The answer; None, and a note, where there is none to be had: an install does not fail for it."""
    try:
        return question()
    except Cancelled:
        raise
    except ModelshelfError as error:
        found.notes.append(f"{what} could not be had: {error.message}")
    except OSError as error:
        found.notes.append(f"{what} could not be had: {error.strerror}.")
    return None


def _pictures(
    origin: Origin, listing: Listing, selection: Selection, staged: Path, said: list[Said], hub: str
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Who shows one, and how to get it, the one that was chosen for this very file first."""
    urls = []
    for statement in (s for each in said for s in each.statements if s.name == "preview"):
        if statement.by == BESIDE:
            yield BESIDE, Path(statement.value).read_bytes
        else:
            urls.append((statement.by, statement.value))
    files = {file.path: file for file in listing.files}
    stem = str(PurePosixPath(selection.weights[0].path).with_suffix(""))
    for path in (f"{stem}{ending}" for ending in PREVIEWS if f"{stem}{ending}" in files):
        yield BESIDE, partial(origin.read, files[path], 0, MAX_BYTES)
    if thumbnail := _thumbnail(staged, selection):
        yield "file header", lambda: thumbnail
    for path in _shown_in(parse_card(listing.card), listing, hub):
        if path in files:
            yield "model card", partial(origin.read, files[path], 0, MAX_BYTES)
    if isinstance(origin, Informed):
        for by, url in urls:
            yield by, partial(origin.fetch, url, MAX_BYTES)


def _thumbnail(staged: Path, selection: Selection) -> bytes | None:
    """modelspec.thumbnail is a data URI."""
    if len(selection.weights) != 1:
        return None
    kind, _, data = read_header(adapter_file(staged)).metadata.get("modelspec.thumbnail", "").partition(";base64,")
    try:
        return base64.b64decode(data, validate=True) if kind.startswith("data:image/") else None
    except ValueError:
        return None  # damaged: as good as none


def _shown_in(card: Card, listing: Listing, hub: str) -> Iterator[str]:
    """Files of the repository that its card shows the model by: `thumbnail`, then the outputs of its widget."""
    widget = card.front.get("widget")
    outputs = [w.get("output") for w in widget if isinstance(w, Mapping)] if isinstance(widget, list) else []
    shown = [card.front.get("thumbnail"), *(o.get("url") for o in outputs if isinstance(o, Mapping))]
    for address in (a for a in shown if isinstance(a, str)):
        if "://" not in address:
            yield address.removeprefix("./")
            continue
        try:
            source = parse_source(address, endpoint=hub)
        except ModelshelfError:
            continue  # elsewhere: no stranger's card sends us to hosts of its choice
        if isinstance(source, HubSource) and source.repo_id == listing.repo_id:
            yield source.path
