"""Which installed models the Hub has a newer version of, judged by the digests that it announces: a new commit alone is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from registry.catalog import Catalog
from registry.errors import ModelshelfError
from registry.installs.examine import connection
from registry.installs.origins import Listing, open_origin
from registry.models import Model, Provenance
from registry.settings import Settings
from registry.sources import HubSource, parse_source


class Change(StrEnum):
    CURRENT = "current"
    NEWER = "newer"
    GONE = "gone"  # the repository has no such file any more
    UNKNOWN = "unknown"  # the Hub could not be asked, or announces no digest


_TELLING = (Change.NEWER, Change.CURRENT, Change.GONE, Change.UNKNOWN)
"""Of several sources that say different things, what counts first: one repository that is away makes nobody doubt another."""


class Update(NamedTuple):
    """`source`: what to install for the newer version; `revision`: its commit; `reason` for people."""

    model: Model
    change: Change
    source: str
    revision: str | None = None
    reason: str = ""


def look_for_updates(models: Iterable[Model], catalog: Catalog, settings: Settings) -> Iterator[Update]:
    """One for each model that came from the Hub, what tells most of all its sources there; each repository is asked once. Nothing is
    downloaded, nothing changed."""
    listings: dict[tuple[str, str | None], Listing | ModelshelfError] = {}
    for model in models:
        found = []
        for source in (source for source in model.sources if source.repo_id is not None):
            key = (source.repo_id or "", source.ref)
            if key not in listings:
                listings[key] = _listing(source, settings)
            found.append(_compare(model, catalog, source, listings[key], settings))
        if found:
            yield min(found, key=lambda update: _TELLING.index(update.change))


def _listing(source: Provenance, settings: Settings) -> Listing | ModelshelfError:
    try:
        with open_origin(HubSource(source.repo_id or "", source.ref), **connection(settings)) as origin:
            return origin.listing()
    except ModelshelfError as error:
        return error


def _on_shelf(
    catalog: Catalog, repo_id: str, listing: Listing, path: str, announced: Mapping[str, str | None]
) -> Model | None:
    """The model that is what the Hub has now, if somebody has fetched it already: by its very source, or its digest."""
    sha256 = announced.get(path)
    return catalog.find(source=str(HubSource(repo_id, listing.revision, path)), **{"sha256": sha256} if sha256 else {})


def _newest(catalog: Catalog, source: Provenance, path: str, settings: Settings) -> Model | None:
    """The model that came last from the same place: it alone is succeeded by what is there now."""
    for url, model_id in catalog.came_from(source.repo_id or "", source.ref):
        pinned = parse_source(url, endpoint=settings.hub_endpoint)
        if isinstance(pinned, HubSource) and pinned.path == path:
            return catalog.get(model_id)
    return None


def _compare(
    model: Model, catalog: Catalog, source: Provenance, listing: Listing | ModelshelfError, settings: Settings
) -> Update:
    pinned = parse_source(source.url, endpoint=settings.hub_endpoint)
    path = pinned.path if isinstance(pinned, HubSource) else ""
    wanted = str(HubSource(source.repo_id or "", source.ref, path))
    if isinstance(listing, ModelshelfError):
        return Update(model, Change.UNKNOWN, wanted, reason=listing.message)
    if listing.revision == source.revision:
        return Update(model, Change.CURRENT, wanted, listing.revision)
    there = {file.path: file.sha256 for file in listing.files}
    here = {
        "/".join(part for part in (path, file.path) if part): file.sha256
        for file in catalog.files(model)
        if file.sha256
    }
    if not here and model.sha256:
        here = {path: model.sha256}
    gone = [name for name in here if name not in there]
    if gone:
        return Update(model, Change.GONE, wanted, listing.revision, f"{source.repo_id} has no {gone[0]} any more")
    # Small files carry no SHA-256 on the Hub; a model is its weights, which are LFS files.
    announced = {name: there[name] for name in here if there[name]}
    if not announced:
        return Update(model, Change.UNKNOWN, wanted, listing.revision, "the Hub announces no SHA-256 of it")
    changed = [name for name, sha256 in announced.items() if sha256 != here[name]]
    newer = _on_shelf(catalog, source.repo_id or "", listing, path, announced) if changed else None
    newer = newer or (_newest(catalog, source, path, settings) if changed else None)
    if newer is not None and newer.id != model.id:
        return Update(model, Change.CURRENT, wanted, listing.revision, f"the newer version is {newer.name}")
    if changed:
        return Update(
            model, Change.NEWER, wanted, listing.revision, f"{len(changed)} of {len(announced)} files are new"
        )
    return Update(model, Change.CURRENT, wanted, listing.revision)
