"""From a whole, verified, classified download to a model: its name, its place on disk, its record."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs
from sqlalchemy import Connection, select

from probes import Kind, Report, read_header
from registry.accelerations import decided
from registry.cards import parse_card
from registry.catalog import Catalog, Entry
from registry.installs.examine import Candidate
from registry.installs.hashing import Digests, folder_digests
from registry.installs.names import file_name
from registry.installs.origins import Listing
from registry.installs.selection import Selection
from registry.models import Model, ModelFile, Provenance, computed
from registry.naming import Names
from registry.recommended import claims, statements, triggers
from registry.rows import MODEL
from registry.sidecars import Said
from registry.sources import HubSource
from registry.tables import now
from registry.weights.files import adapter_file


@dataclass(frozen=True, slots=True)
class Placed:
    """`notes`: for people, what is worth knowing of it. `is_new`: the shelf has these bytes because of it."""

    model: Model
    notes: list[str]
    is_new: bool


@contextmanager
def place(
    catalog: Catalog,
    root: Path,
    candidate: Candidate,
    staged: Path,
    digests: Mapping[str, Digests],
    sidecars: Sequence[Said] = (),
) -> Iterator[Placed]:
    """The model, recorded and under its final name; both are taken back when the block raises.

    Row first: a kill in between leaves a row without a file, which the next run of the install fills, and never a file that nobody
    knows. A row that is known as damaged or missing stays so until the whole file is there.

    The same bytes that are on the shelf already stay where they are, and gain a source; unless it is an earlier run, killed before its end
    was on record, that has put them there.
    """
    listing, selection, report = candidate.listing, candidate.selection, candidate.report
    whole = whole_digests(selection, digests)
    known = catalog.find(blake3=whole.blake3)
    mark = staged.with_name("placed")  # says what this install puts on the shelf
    if known is not None and catalog.is_whole(known):
        is_mine = mark.exists() and mark.read_text() == known.id
        model = gain_source(catalog, known, listing, selection)
        notes = [] if is_mine else [f"{known.name} on the shelf has the same bytes; it was not kept twice."]
        yield Placed(model, notes, is_mine)
        return
    if known is None:
        notes = _same_weights(catalog, whole)
        model = _record(catalog, root, candidate, staged, digests, sidecars)
    else:
        notes = [f"{known.name} is whole again."]
        model = _at_home(catalog, root, known, staged, report, selection)
    notes += contradictions(model)
    path, is_there = catalog.path(model), False
    try:
        mark.write_text(model.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        if known is not None and known.managed:
            _clear(path)
        _put(staged, path)
        is_there = True
        if known is not None:
            model = _set(catalog, model, missing_since=None, damaged_at=None)
        yield Placed(model, notes, True)
    except BaseException:
        if is_there and staged.exists():
            path.unlink()
        elif is_there:
            path.rename(staged)
        if known is None:
            catalog.remove(model)
        else:
            was = {"path": known.path, "managed": known.managed, "damaged_at": known.damaged_at}
            catalog.place(known, **was, missing_since=known.missing_since or now())
        catalog.disown(model.path)
        raise


def _clear(path: Path) -> None:
    """Remove what is left of a model of modelshelf's own."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _put(staged: Path, path: Path) -> None:
    """Give `staged` its final name; a file keeps the one that it has, too, until its folder is removed.

    Raises FileExistsError: nothing that somebody has put there meanwhile is replaced.
    """
    if not staged.is_dir():
        try:
            path.hardlink_to(staged)
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
    staged.rename(path)  # of a folder onto one that holds something the system refuses it


def _at_home(catalog: Catalog, root: Path, known: Model, staged: Path, report: Report, selection: Selection) -> Model:
    """The record of a model whose file is gone or damaged, at the place that the whole one gets; it counts as gone or damaged until the
    whole one is there. Where it lay in a folder of the user's, to which nothing is written, it lies on the shelf from now on; the record,
    with the user's settings, stays."""
    if known.managed:
        return known
    with catalog.writing() as connection:
        path = _free_name(connection, root, staged, report, selection)[1]
    return _set(catalog, known, path=path, managed=True, missing_since=known.missing_since or now())


def _set(catalog: Catalog, model: Model, **columns: Any) -> Model:
    catalog.place(model, **columns)
    return catalog.get(model.id)


def _same_weights(catalog: Catalog, whole: Digests) -> list[str]:
    """AutoV3 is of the tensors alone: equal for files that differ in their header only."""
    other = catalog.find(autov3=whole.autov3) if whole.autov3 else None
    return [] if other is None else [f"It has the same weights as {other.name}, with another header (equal AutoV3)."]


def contradictions(model: Model) -> list[str]:
    """Digests that somebody claims for it, and that the bytes do not have."""
    return [
        f"The {claim.by} claims {claim.algorithm} {claim.value[:12]}; the bytes have {str(model.digest(claim.algorithm))[:12]}."
        for claim in model.claims
        if model.contradicts(claim)
    ]


def _record(
    catalog: Catalog,
    root: Path,
    candidate: Candidate,
    staged: Path,
    digests: Mapping[str, Digests],
    sidecars: Sequence[Said],
) -> Model:
    listing, selection, report = candidate.listing, candidate.selection, candidate.report
    whole = whole_digests(selection, digests)
    card = parse_card(listing.card)
    is_adapter = report.kind != Kind.CHECKPOINT
    metadata = read_header(adapter_file(staged)).metadata if is_adapter or not selection.is_folder else {}
    model = Model(
        name="",
        kind=str(report.kind),
        family=str(report.family),
        variant=report.variant,
        prediction_type=report.prediction_type,
        format=str(report.format),
        path="",
        size=whole.size,
        hashed_at=now(),
        digests=(
            *computed(**whole.by_algorithm()),
            *claims(metadata, sidecars),
        ),
        sources=(provenance(listing, selection),),
        trigger_words=tuple(triggers(metadata, card, sidecars)) if is_adapter else (),
        statements=(*statements(metadata, card, sidecars), *decided(report)),
        tags=report.tags,
        overrides=dict(candidate.words),
    )
    files = [
        ModelFile(n if selection.is_folder else "", d.size, sha256=d.sha256, blake3=d.blake3)
        for n, d in sorted(digests.items())
    ]
    with catalog.writing() as connection:  # in which nobody else takes the name
        name, path = _free_name(connection, root, staged, report, selection)
        model = structs.replace(model, name=name, path=path)
        catalog.add_in(connection, [Entry(model, report.as_dict(), files)])
    return model


def _free_name(
    connection: Connection, root: Path, staged: Path, report: Report, selection: Selection
) -> tuple[str, str]:
    """A name that no model has, and its path from `root`, <kind>/<family>/<name>, where nothing is and no model was."""
    suffix = "" if selection.is_folder else staged.suffix

    def path(name: str) -> str:
        return f"{report.kind}/{report.family}/{name}{suffix}"

    def is_free(name: str) -> bool:
        has_it = connection.execute(select(MODEL.c.id).where(MODEL.c.path == path(name))).first() is not None
        return not has_it and not os.path.lexists(root / path(name))

    name = Names(connection).free(file_name(selection.name), is_free)
    return name, path(name)


def pinned(listing: Listing, selection: Selection) -> str:
    """Canonical source of the selected files: of a repository the very file or sub-folder, whatever the user named it by."""
    if listing.repo_id is None:
        return listing.source
    part = selection.prefix.rstrip("/") if selection.is_folder else selection.files[0].path
    return str(HubSource(listing.repo_id, listing.revision, part))


def provenance(listing: Listing, selection: Selection) -> Provenance:
    """Where the selected files came from; `etag` and `path` are a single file's."""
    single = None if selection.is_folder else selection.files[0]
    return Provenance(
        url=pinned(listing, selection),
        repo_id=listing.repo_id,
        revision=listing.revision,
        path=single.path if single and listing.repo_id else None,
        ref=listing.ref,
        etag=single.sha256 if single else None,
    )


def gain_source(catalog: Catalog, model: Model, listing: Listing, selection: Selection) -> Model:
    """A model that is whole: it comes from here, too, and is not missing, whatever its record says of an earlier moment."""
    model = catalog.add_source(model, provenance(listing, selection))
    if model.missing_since is None:
        return model
    catalog.set(model, missing_since=None)  # where it lies is where it lay: what a scan has seen of it holds
    return catalog.get(model.id)


def whole_digests(selection: Selection, digests: Mapping[str, Digests]) -> Digests:
    """The model's own digests."""
    return folder_digests(digests) if selection.is_folder else next(iter(digests.values()))
