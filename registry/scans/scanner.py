"""One scan of a folder: what is new is registered where it lies, what has moved is found again, what is gone is marked.

What has not changed costs a stat: its stamp (size, time, inode) is what it was. Nothing is hashed here but a new file that may be a lost
one under another name; the others are hashed later (registry/scans/digesting.py), and can be used until then.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from sqlalchemy import Connection, Engine, RowMapping, delete, select, update

from probes import TAKEN, Header, Hints, Kind, Outcome, Report, UnreadableModel, read_header
from probes.scan import Found, Stamp, look_at, scan_folder
from registry.accelerations import decided
from registry.catalog import Catalog
from registry.errors import FileMissing, UnusableFile
from registry.fits import structure_of
from registry.installs.examine import accept
from registry.models import Model, ModelFile, new_id
from registry.naming import Names
from registry.queries import storable
from registry.rows import MODEL, rows_of, write
from registry.scans.beside import Look
from registry.scans.digesting import hash_model
from registry.scans.record import (
    SEEN,
    Seen,
    folder_scanned,
    folders,
    forget,
    in_place,
    models_at,
    of_inode,
    remember,
    seen_below,
)
from registry.scans.skips import BAD_NAME, Skip, Skips, reason_of
from registry.tables import now
from registry.weights.files import adapter_file

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
    ) -> Counts:
        """`check` raises to end it early; what was found until then stays.

        Raises FileMissing where there is no such folder: a disk that is not there says nothing of its files.
        """
        root = os.path.realpath(folder)
        if not Path(root).is_dir():
            raise FileMissing(f"There is no folder {folder}.", path=str(folder))
        before = seen_below(self._engine, root, current=True)
        known = {path: (seen.stamp, _REMEMBERED) for path, seen in before.items()}
        lost = _Lost(self._engine, self._catalog, check)
        counts, visited, unreadable, waiting = Counts(), set[str](), list[str](), list[Found]()
        for found in scan_folder(root, known, self._hints):
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
                counts = self._settle(waiting, counts, lost)
                waiting = []
                on_progress(counts)
        counts = self._settle(waiting, counts, lost)
        counts = counts.plus(missing=self._mark(root, visited, unreadable))
        on_progress(counts)
        with self._engine.begin() as connection:
            folder_scanned(connection, root)
        return counts

    def register(self, path: Path) -> Model:
        """One file, or a folder that is one model, where it lies, whatever is scanned. Raises FileMissing, and what no model raises."""
        real = os.path.realpath(path)
        if not storable(real):
            raise UnusableFile(f"{real!r} has a name that is not UTF-8; rename it.")
        found = look_at(real, self._hints)
        if found.stamp is None:
            raise FileMissing(found.report.reason, path=real)
        accept(found.report)
        self._settle([found], Counts(), _Lost(self._engine, self._catalog))
        with self._engine.connect() as connection:
            [model_id] = models_at(connection, [self._relative(real)]).values()
        return self._catalog.get(model_id)

    def look_again(self, model: Model) -> None:
        """What a scan of its file alone would do. Raises FileMissing; UnusableFile for what is no model any more, and counts as gone."""
        found = look_at(os.path.realpath(self._catalog.path(model)), self._hints)
        self._settle([found], Counts(), _Lost(self._engine, self._catalog))
        if found.stamp is None:
            raise FileMissing(found.report.reason, path=found.path)
        if not is_taken(found.report):
            raise UnusableFile(
                f"{model.name} has changed since it was scanned, and is no model to use any more: {found.report.reason} Put the file back, "
                "or remove the model.",
                model=model.id,
            )

    def _hints(self, path: str) -> Hints:
        return self._look(Path(path), {}).hints

    # -- what is new or has changed
    def _settle(self, batch: Sequence[Found], counts: Counts, lost: _Lost) -> Counts:
        """Register, revise or find again what stands at these paths."""
        if not batch:
            return counts
        taken = [found for found in batch if found.stamp and is_taken(found.report)]
        paths = {found.path: self._relative(found.path) for found in taken}
        with self._engine.connect() as connection:
            here = models_at(connection, list(paths.values()))
            new = [found for found in taken if paths[found.path] not in here]
            seen_before = of_inode(connection, [found.stamp for found in new if found.stamp])
        described = {found.path: self._describe(found) for found in taken}
        moved = {
            found.path: match
            for found in new
            if (match := lost.match(found, seen_before.get(_stamp(found), ()), described[found.path].structure))
        }
        with self._catalog.writing() as connection:
            names = Names(connection)
            added, seen = [], []
            for found in taken:
                model, stamp = described[found.path], _stamp(found)
                files = [ModelFile("", stamp.size)] if Path(found.path).is_file() else []
                if found.path in moved:
                    model = replace(model, id=moved[found.path])
                    values = {"path": model.path, "missing_since": None}
                    connection.execute(update(MODEL).where(MODEL.c.id == model.id).values(**values))
                    connection.execute(delete(SEEN).where(SEEN.c.model_id == model.id))
                elif (known := here.get(model.path)) is not None:
                    model, same = self._kept(connection, model, known, stamp)
                    revise = self._catalog.reclassify_in if same else self._catalog.revise_in
                    revise(connection, model, found.report.as_dict(), files)
                else:
                    model = replace(model, name=names.free(model.name))
                    added.append(rows_of(model, found.report.as_dict(), files))
                seen.append(Seen(found.path, stamp, model.id))
            write(connection, added)
            remember(connection, [*seen, *self._not_taken(connection, batch)])
        for found in batch:
            if not found.stamp or not is_taken(found.report):
                counts = counts.without(reason_of(found.report), found.path)
        return counts.plus(added=len(added), moved=len(moved), changed=len(taken) - len(added) - len(moved))

    def _kept(self, connection: Connection, model: Model, known: str, stamp: Stamp) -> tuple[Model, bool]:
        """With what stays of the model that is recorded there, and whether its bytes are the same.

        They are with the stamp of last time; of one that no scan has seen (it was installed), with its size.
        """
        row = connection.execute(select(MODEL).where(MODEL.c.id == known)).mappings().one()
        before = connection.execute(select(SEEN).where(SEEN.c.model_id == known)).mappings().first()
        same = (
            stamp == Stamp(before["size"], before["mtime_ns"], before["inode"]) if before else stamp.size == row["size"]
        )
        return replace(model, **{name: row[name] for name in ("id", "name", "managed", "created_at")}), same

    def _not_taken(self, connection: Connection, batch: Sequence[Found]) -> list[Seen]:
        """What is no model to take; where a model has stood until now, its file counts as gone."""
        others = [found for found in batch if found.stamp and not is_taken(found.report)]
        replaced = models_at(connection, [self._relative(found.path) for found in others])
        for model_id in replaced.values():
            connection.execute(update(MODEL).where(MODEL.c.id == model_id).values(missing_since=now()))
        return [Seen(f.path, f.stamp, None, f.report.reason, reason_of(f.report)) for f in others if f.stamp]

    def _describe(self, found: Found) -> Model:
        path, report = Path(found.path), found.report
        header = Header({})
        with suppress(
            UnreadableModel, UnusableFile, OSError
        ):  # read a moment ago; if it is gone by now, its next scan tells
            header = read_header(adapter_file(path)) if path.is_file() or report.kind != Kind.CHECKPOINT else header
        beside = self._look(path, header.metadata)
        return Model(
            id=new_id(),
            name=path.stem if path.is_file() else path.name,
            kind=str(report.kind),
            family=str(report.family),
            variant=report.variant,
            prediction_type=report.prediction_type,
            format=str(report.format),
            path=self._relative(found.path),
            size=_stamp(found).size,
            managed=False,
            structure=structure_of(path, str(report.kind), str(report.family)),
            digests=beside.claims,
            trigger_words=beside.triggers,
            statements=(*beside.statements, *decided(report)),
            tags=report.tags,
        )

    def _relative(self, path: str) -> str:
        """As `model.path` has it: from the root when inside it, and absolute anywhere else."""
        root = os.path.realpath(self._catalog.root)
        return path[len(root) + 1 :] if path.startswith(root + "/") else path

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

    def _mark(self, root: str, visited: set[str], unreadable: Sequence[str]) -> int:
        """Models of this folder that were not met are missing, those that were are not. Returns how many went missing now."""
        hidden = tuple(path + "/" for path in unreadable)  # what cannot be looked into says nothing of what is in it
        with self._engine.connect() as connection:
            missing = dict(
                connection.execute(
                    select(MODEL.c.id, MODEL.c.missing_since).where(MODEL.c.missing_since.is_not(None))
                ).all()
            )
        seen = seen_below(self._engine, root)
        gone = [s for s in seen.values() if s.path not in visited and not s.path.startswith(hidden or ("\0",))]
        lost = [s.model_id for s in gone if s.model_id and s.model_id not in missing]
        back = [s.model_id for s in seen.values() if s.path in visited and s.model_id in missing]
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


class _Lost:
    """Models whose file is not where it was: is one of them the file that was found now?"""

    def __init__(self, engine: Engine, catalog: Catalog, check: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._catalog = catalog
        self._check = check
        self._found: set[str] = set()

    def match(self, found: Found, seen_before: Sequence[Seen], structure: str | None) -> str | None:
        """The model's id. By inode, size and time (moved within a file system; `seen_before`), else by digest; else None."""
        for seen in seen_before:
            if seen.model_id and self._is_free(seen.model_id) and not os.path.lexists(seen.path):
                return self._take(seen.model_id)
        # Of other shapes it cannot be the same; that spares most hashing.
        rows = [row for row in self._gone.get(_stamp(found).size, ()) if self._is_free(row["id"])]
        candidates = [row for row in rows if row["structure"] in (None, structure)]
        digests = {row["id"]: self._catalog.get(row["id"]).blake3 for row in candidates}
        if not any(digests.values()):
            return None
        try:
            blake3 = hash_model(Path(found.path), self._check).whole.blake3
        except OSError:
            return None  # it cannot be read; the next scan looks again
        return next((self._take(model_id) for model_id, known in digests.items() if known == blake3), None)

    @cached_property
    def _gone(self) -> Mapping[int, Sequence[RowMapping]]:
        """Models that are registered in place and are not there, by size. Asked for once a scan, when the first new file is met: a library
        may hold thousands of LoRAs of one size."""
        found: dict[int, list[RowMapping]] = {}
        with self._engine.connect() as connection:
            for row in in_place(connection):
                if not os.path.lexists(self._catalog.root / row["path"]):
                    found.setdefault(row["size"], []).append(row)
        return found

    def _is_free(self, model_id: str) -> bool:
        return model_id not in self._found

    def _take(self, model_id: str) -> str:
        self._found.add(model_id)
        return model_id


def _stamp(found: Found) -> Stamp:
    """Of one that has one: what could not be looked at was left out before."""
    if found.stamp is None:
        raise ValueError(f"{found.path} has no stamp")
    return found.stamp
