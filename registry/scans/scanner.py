"""One scan of a folder: what is new is registered where it lies, what has moved is found again, what is gone is marked.

What has not changed costs a stat: its stamp (size, time, inode) is what it was. Nothing is hashed here but a file that may be a lost one
under another name: a new one, or a changed one as long as some model of its size has nothing at its place; the others are hashed later
(registry/scans/digesting.py), and can be used until then.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from msgspec import structs
from sqlalchemy import Connection, Engine, select, update

from probes import TAKEN, Header, Hints, Kind, Outcome, Report, UnreadableModel, read_header
from probes.scan import SUFFIXES, Found, Stamp, look_at, scan_folder
from registry.accelerations import decided
from registry.catalog import Catalog, Entry
from registry.errors import FileMissing, UnusableFile
from registry.fits import structure_of
from registry.installs.examine import accept
from registry.models import Model, ModelFile, new_id
from registry.naming import Names
from registry.queries import storable
from registry.revisions import reclassify, revise
from registry.rows import MODEL
from registry.scans.beside import Look, MayRead
from registry.scans.lost import Lost
from registry.scans.record import (
    Seen,
    folder_scanned,
    folders,
    forget,
    models_at,
    of_inode,
    put,
    remember,
    seen_below,
    spoken,
)
from registry.scans.skips import BAD_NAME, Skip, Skips, reason_of
from registry.tables import now
from registry.weights.files import adapter_file
from registry.words import NOTHING_SAID, Words, heard, words_of

logger = logging.getLogger(__name__)

BATCH = 100  # files that go into the database together: one commit for each would be most of a first scan's time
_REMEMBERED = Report(
    Outcome.IDENTIFIED, "remembered"
)  # stands for a report that nobody reads: the path has not changed


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one scan, in models; `skips`: weight files that are no model to take, by reason (`seen.reason` tells each one's)."""

    unchanged: int = 0
    added: int = 0
    changed: int = 0
    moved: int = 0
    missing: int = 0
    skips: Skips = field(default_factory=dict)

    @property
    def skipped(self) -> int:
        return sum(skip.count for skip in self.skips.values())

    def plus(self, **more: int) -> Counts:
        return replace(self, **{name: getattr(self, name) + n for name, n in more.items()})

    def without(self, reason: str, path: str) -> Counts:
        """With one more that was passed over."""
        return replace(self, skips={**self.skips, reason: self.skips.get(reason, Skip(reason)).and_(path)})

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in _NUMBERS}


_NUMBERS = ("unchanged", "added", "changed", "moved", "missing", "skipped")
OnProgress = Callable[[Counts], None]


class Scanner:
    """Scans into one catalogue. `look` reads what lies beside a file."""

    def __init__(self, engine: Engine, catalog: Catalog, look: Look) -> None:
        self._engine = engine
        self._catalog = catalog
        self._look = look

    def scan(
        self,
        folder: Path,
        on_progress: OnProgress = lambda _: None,
        check: Callable[[], None] = lambda: None,
        may_read: MayRead | None = None,
    ) -> Counts:
        """`check` raises to end it early; what was found until then stays. `may_read`: what links lead to, for a scan that may not follow
        them everywhere; what lies behind the others is passed over, and says nothing of the models that are on record there.

        Raises FileMissing where there is no such folder: a disk that is not there says nothing of its files.
        """
        root = os.path.realpath(folder)
        if not Path(root).is_dir():
            raise FileMissing(f"There is no folder {folder}.", path=str(folder))
        before = seen_below(self._engine, root, current=True)
        missing = self._missing()
        known = {path: (seen.stamp, _REMEMBERED) for path, seen in before.items()}
        lost, look = Lost(self._engine, self._catalog, check), self._looking(may_read)
        counts, visited, unreadable, waiting = Counts(), set[str](), list[str](), list[Found]()
        for found in scan_folder(root, known, partial(_hints, look), may_read):
            check()
            visited.add(found.path)
            if not storable(found.path):  # nothing can be on record under a name that is no text
                logger.warning("%r is passed over: its name is not UTF-8", found.path)
                counts = counts.without(BAD_NAME, found.path.encode("utf-8", "replace").decode())
            elif found.fresh:
                waiting.append(found)
                if found.stamp is None:
                    unreadable.append(found.path)
            elif (seen := before[found.path]).model_id:
                counts = counts.plus(unchanged=1)
            else:
                counts = counts.without(seen.code, found.path)
            if len(waiting) >= BATCH:
                counts = self._settle(waiting, counts, lost, look)
                waiting = []
                on_progress(counts)
        counts = self._settle(waiting, counts, lost, look)
        counts = counts.plus(missing=self._mark(root, visited, unreadable, missing))
        on_progress(counts)
        with self._engine.begin() as connection:
            folder_scanned(connection, root)
        return counts

    def register(self, path: Path, may_read: MayRead | None = None, words: Words = NOTHING_SAID) -> Model:
        """One file, or a folder that is one model, where it lies, whatever is scanned; `may_read`: of what lies beside it; `words`: what
        the user says that it is. Raises FileMissing, and what no model raises."""
        real = os.path.realpath(path)
        if not storable(real):
            raise UnusableFile(f"{real!r} has a name that is not UTF-8; rename it.")
        look = self._looking(may_read)
        found = look_at(real, partial(_hints, look, words=words))
        if found.stamp is None:
            raise FileMissing(found.report.reason, path=real)
        accept(found.report)
        self._settle([found], Counts(), Lost(self._engine, self._catalog), look, words)
        with self._engine.connect() as connection:
            [known] = models_at(connection, [self._catalog.relative(real)]).values()
        return self._catalog.override(known.id, words) if words else self._catalog.get(known.id)

    def look_again(self, model: Model) -> None:
        """What a scan of its file alone would do. Raises FileMissing; UnusableFile for what is no model any more, and counts as gone."""
        words = words_of(model.overrides)
        found = look_at(os.path.realpath(self._catalog.path(model)), partial(_hints, self._look, words=words))
        self._settle([found], Counts(), Lost(self._engine, self._catalog), self._look, words)
        if found.stamp is None:
            raise FileMissing(found.report.reason, path=found.path)
        if not is_taken(found.report):
            raise UnusableFile(
                f"{model.name} has changed since it was scanned, and is no model to use any more: {found.report.reason} Put the file back, "
                "or remove the model.",
                model=model.id,
            )

    def _looking(self, may_read: MayRead | None) -> Look:
        return self._look if may_read is None else partial(self._look, may_read=may_read)

    # -- what is new or has changed
    def _settle(
        self, batch: Sequence[Found], counts: Counts, lost: Lost, look: Look, words: Words = NOTHING_SAID
    ) -> Counts:
        """Register, revise or find again what stands at these paths: a file is the model that its bytes were before it is the one whose
        path it has. `words`: with which it was looked at; without, those count that the user has said of the model before."""
        if not batch:
            return counts
        with self._engine.connect() as connection:
            said = {} if words else spoken(connection)
        # One of which the user has said something may be open without it, wherever it lies by now.
        taken = [
            f for f in batch if f.stamp and (is_taken(f.report) or (said and f.report.outcome is Outcome.AMBIGUOUS))
        ]
        paths = {found.path: self._catalog.relative(found.path) for found in taken}
        stamps = {found.path: _stamp(found) for found in taken}
        with self._engine.connect() as connection:
            at_path = models_at(connection, list(paths.values()))
            here = {path: at_path.get(relative) for path, relative in paths.items()}
            same = {path: known.id for path, known in here.items() if known and known.is_same(stamps[path])}
            seen_before = of_inode(connection, [stamp for path, stamp in stamps.items() if path not in same])
        described = {found.path: self._describe(found, look) for found in taken}
        matched = {
            path: match
            for path, stamp in stamps.items()
            if path not in same
            and (match := lost.match(path, stamp, described[path].structure, seen_before.get(stamp, ()), here[path]))
        }
        if said:
            left = {path: known.id for path, known in here.items() if known and known.id not in matched.values()}
            again = {
                path: self._as_said(path, look, said[of]) for path, of in {**left, **matched}.items() if of in said
            }
            batch = [again.get(found.path, found) for found in batch]
            taken = [found for found in batch if found.stamp and is_taken(found.report)]
            described |= {found.path: self._describe(found, look) for found in taken if found.path in again}
            matched = {found.path: matched[found.path] for found in taken if found.path in matched}
        moved = {path: match for path, match in matched.items() if (known := here[path]) is None or match != known.id}
        with self._catalog.writing() as connection:
            names = Names(connection)
            added, seen = [], []
            for found in taken:
                model, stamp = described[found.path], stamps[found.path]
                files = [ModelFile("", stamp.size)] if Path(found.path).is_file() else []
                if found.path in moved:
                    model = structs.replace(model, id=moved[found.path])
                    put(connection, model.id, model.path)
                elif (known := here[found.path]) is not None and known.id not in moved.values():
                    model = self._kept(connection, model, known.id)
                    is_same = found.path in same or found.path in matched
                    if is_same:
                        reclassify(connection, model, found.report.as_dict())
                    else:
                        revise(connection, model, found.report.as_dict(), files)
                else:
                    model = structs.replace(model, name=names.free(model.name))
                    added.append(Entry(model, found.report.as_dict(), files))
                seen.append(Seen(found.path, stamp, model.id))
            self._catalog.add_in(connection, added)
            remember(connection, [*seen, *self._not_taken(connection, batch)])
        for found in batch:
            if not found.stamp or not is_taken(found.report):
                counts = counts.without(reason_of(found.report), found.path)
        return counts.plus(added=len(added), moved=len(moved), changed=len(taken) - len(added) - len(moved))

    @staticmethod
    def _as_said(path: str, look: Look, words: Words) -> Found:
        return look_at(path, partial(_hints, look, words=words))

    @staticmethod
    def _kept(connection: Connection, model: Model, known: str) -> Model:
        """With what stays of the model that is recorded there."""
        row = connection.execute(select(MODEL).where(MODEL.c.id == known)).mappings().one()
        return structs.replace(model, **{name: row[name] for name in ("id", "name", "managed", "created_at")})

    def _not_taken(self, connection: Connection, batch: Sequence[Found]) -> list[Seen]:
        """What is no model to take; where a model has stood until now, its file counts as gone."""
        others = [found for found in batch if found.stamp and not is_taken(found.report)]
        replaced = models_at(connection, [self._catalog.relative(found.path) for found in others])
        for known in replaced.values():
            connection.execute(update(MODEL).where(MODEL.c.id == known.id).values(missing_since=now()))
        return [Seen(f.path, f.stamp, None, f.report.reason, reason_of(f.report)) for f in others if f.stamp]

    def _describe(self, found: Found, look: Look) -> Model:
        path, report = Path(found.path), found.report
        header = Header({})
        with suppress(
            UnreadableModel, UnusableFile, OSError
        ):  # read a moment ago; if it is gone by now, its next scan tells
            header = read_header(adapter_file(path)) if path.is_file() or report.kind != Kind.CHECKPOINT else header
        beside = look(path, header.metadata)
        return Model(
            id=new_id(),
            name=path.stem if path.is_file() else path.name,
            kind=str(report.kind),
            family=str(report.family),
            variant=report.variant,
            prediction_type=report.prediction_type,
            format=str(report.format),
            path=self._catalog.relative(found.path),
            size=_stamp(found).size,
            managed=False,
            structure=structure_of(path, str(report.kind), str(report.family)),
            digests=beside.claims,
            trigger_words=beside.triggers,
            statements=(*beside.statements, *decided(report)),
            tags=report.tags,
        )

    # -- what is not there any more, and what is back
    def check_others(self) -> None:
        """Models that lie in no folder that is scanned, modelshelf's own and single ones registered in place: those whose file somebody
        has deleted are marked, those that are there again are not."""
        columns = (MODEL.c.id, MODEL.c.path, MODEL.c.missing_since, MODEL.c.managed)
        below = tuple(f"{folder.rstrip('/')}/" for folder in folders(self._engine))
        with self._engine.connect() as connection:
            every = connection.execute(select(*columns)).all()
        own = [row for row in every if row.managed or not row.path.startswith(below)]
        there = {row.id: (self._catalog.root / row.path).exists() for row in own}
        lost = [row.id for row in own if row.missing_since is None and not there[row.id]]
        back = [row.id for row in own if row.missing_since is not None and there[row.id]]
        self._set_missing(lost, back)

    def _missing(self) -> set[str]:
        with self._engine.connect() as connection:
            return {*connection.execute(select(MODEL.c.id).where(MODEL.c.missing_since.is_not(None))).scalars()}

    def _mark(self, root: str, visited: set[str], unreadable: Sequence[str], missing: set[str]) -> int:
        """Models of this folder that were not met are missing, those that were are not; `missing`: that were before. A file that was
        registered by itself and has an ending that no scan looks at counts as met while it is there. Returns how many went missing now."""

        def is_met(path: str) -> bool:
            return path in visited or (not path.lower().endswith(SUFFIXES) and Path(path).is_file())

        hidden = tuple(path + "/" for path in unreadable)  # what cannot be looked into says nothing of what is in it
        below = seen_below(self._engine, root).values()
        seen = [s for s in below if not s.path.startswith(hidden or ("\0",))]
        gone = [s for s in seen if not is_met(s.path)]
        lost = [s.model_id for s in gone if s.model_id and s.model_id not in missing]
        back = [s.model_id for s in seen if s.model_id in missing and is_met(s.path)]
        self._set_missing(lost, [model_id for model_id in back if model_id])
        with self._engine.begin() as connection:
            forget(connection, [s.path for s in gone if not s.model_id])
        return len(lost)

    def _set_missing(self, lost: Sequence[str], back: Sequence[str]) -> None:
        if not lost and not back:
            return
        with self._catalog.writing() as connection:
            for ids, since in ((lost, now()), (back, None)):
                for model_id in ids:
                    connection.execute(update(MODEL).where(MODEL.c.id == model_id).values(missing_since=since))


def is_taken(report: Report) -> bool:
    return report.outcome is Outcome.IDENTIFIED and report.kind in TAKEN


def _hints(look: Look, path: str, words: Words = NOTHING_SAID) -> Hints:
    return heard(look(Path(path), {}).hints, words)


def _stamp(found: Found) -> Stamp:
    """Of one that has one: what could not be looked at was left out before."""
    if found.stamp is None:
        raise ValueError(f"{found.path} has no stamp")
    return found.stamp
