"""What scans remember: every path with its stamp, and the model that it is, if any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, delete, insert, or_, select, update

from probes.scan import Stamp
from registry.placed import disown
from registry.prober import prober
from registry.rows import MODEL, in_parts, table_of
from registry.tables import FolderRow, OverrideRow, SeenRow, now
from registry.words import WORDS

SEEN, FOLDER = table_of(SeenRow), table_of(FolderRow)


class Known(NamedTuple):
    """A model on record, `path` as `model` has it. `stamp` None: no scan has seen it."""

    id: str
    path: str
    size: int
    structure: str | None
    stamp: Stamp | None

    def is_same(self, stamp: Stamp) -> bool:
        """Whether its bytes are: with the stamp of last time; of one that no scan has seen (it was installed), with its size."""
        return stamp == self.stamp if self.stamp else stamp.size == self.size


class Seen(NamedTuple):
    """`model_id` None: it is no model here, and `reason` says why, `code` what kind of reason that is (registry/scans/skips.py)."""

    path: str
    stamp: Stamp
    model_id: str | None
    reason: str = ""
    code: str = ""


def below(folder: str) -> ColumnElement[bool]:
    """Paths in a folder, at any depth: a range of the key."""
    start = folder.rstrip("/")
    return or_(
        SEEN.c.path == folder, and_(SEEN.c.path > f"{start}/", SEEN.c.path < f"{start}0")
    )  # `0` stands behind `/`


def seen_below(engine: Engine, folder: str, *, current: bool = False) -> dict[str, Seen]:
    """What was looked at in a folder, by path. `current`: by this prober."""
    columns = (SEEN.c.path, SEEN.c.size, SEEN.c.mtime_ns, SEEN.c.inode, SEEN.c.model_id, SEEN.c.code)
    query = select(*columns).where(below(folder))
    if current:
        query = query.where(SEEN.c.prober == prober())
    with engine.connect() as connection:
        return {row[0]: Seen(row[0], Stamp(*row[1:4]), row[4], code=row[5]) for row in connection.execute(query)}


def outdate(engine: Engine, folder: str) -> None:
    """What lies in a folder is looked at again by the next scan, changed or not."""
    with engine.begin() as connection:
        connection.execute(update(SEEN).where(below(folder)).values(prober=""))


def remember(connection: Connection, seen: Sequence[Seen]) -> None:
    """In place of what was known of these paths."""
    forget(connection, [s.path for s in seen])
    rows = [
        {
            "path": s.path,
            **s.stamp._asdict(),
            "model_id": s.model_id,
            "reason": s.reason,
            "code": s.code,
            "prober": prober(),
        }
        for s in seen
    ]
    if rows:
        connection.execute(insert(SEEN), rows)


def forget(connection: Connection, paths: Sequence[str]) -> None:
    for some in in_parts(paths):
        connection.execute(delete(SEEN).where(SEEN.c.path.in_(some)))


def of_inode(connection: Connection, stamps: Iterable[Stamp]) -> dict[Stamp, list[Seen]]:
    """Models' paths that had one of these stamps, by stamp: the same file under another name, if that one is gone."""
    wanted = set(stamps)
    found: dict[Stamp, list[Seen]] = {}
    for some in in_parts(sorted({stamp.inode for stamp in wanted})):
        query = select(SEEN).where(SEEN.c.inode.in_(some), SEEN.c.model_id.is_not(None))
        for row in connection.execute(query).mappings():
            stamp = Stamp(row["size"], row["mtime_ns"], row["inode"])
            if stamp in wanted:
                found.setdefault(stamp, []).append(Seen(row["path"], stamp, row["model_id"]))
    return found


_KNOWN: Select[Any] = select(
    MODEL.c.id, MODEL.c.path, MODEL.c.size, MODEL.c.structure, SEEN.c.size, SEEN.c.mtime_ns, SEEN.c.inode
).outerjoin(SEEN, SEEN.c.model_id == MODEL.c.id)


def every_model(connection: Connection) -> Iterable[Known]:
    return map(_known, connection.execute(_KNOWN))


def models_at(connection: Connection, paths: Sequence[str]) -> dict[str, Known]:
    """By `path`, as `model` has it."""
    rows = (row for some in in_parts(paths) for row in connection.execute(_KNOWN.where(MODEL.c.path.in_(some))))
    return {known.path: known for known in map(_known, rows)}


def _known(row: Sequence[Any]) -> Known:
    model_id, path, size, structure, *stamp = row
    return Known(model_id, path, size, structure, None if stamp[0] is None else Stamp(*stamp))


def spoken(connection: Connection) -> dict[str, dict[str, str]]:
    """What the user says that models are (registry/words.py), by their ids: of few."""
    own = table_of(OverrideRow)
    found: dict[str, dict[str, str]] = {}
    for row in connection.execute(select(own).where(own.c.name.in_(WORDS))).mappings():
        found.setdefault(row["model_id"], {})[row["name"]] = row["value"]
    return found


def put(connection: Connection, model_id: str, path: str) -> None:
    """A model has been found at `path`, as `model` has it, where it is the user's own. The one that was there until now has no place any
    more: it waits under a name that no file has, missing, until its bytes are found again."""
    old = connection.execute(select(MODEL.c.path).where(MODEL.c.id == model_id)).scalar_one()
    there = select(MODEL.c.id).where(MODEL.c.path == path, MODEL.c.id != model_id)
    if (replaced := connection.execute(there).scalar()) is not None:
        waiting = {"path": f"{path}.{replaced}", "missing_since": now()}
        connection.execute(update(MODEL).where(MODEL.c.id == replaced).values(**waiting))
        seen = update(SEEN).where(SEEN.c.model_id == replaced)
        connection.execute(seen.values(path=SEEN.c.path + f".{replaced}"))
    values = {"path": path, "managed": False, "missing_since": None}
    connection.execute(update(MODEL).where(MODEL.c.id == model_id).values(**values))
    connection.execute(delete(SEEN).where(SEEN.c.model_id == model_id))
    for left in (old, path):
        disown(connection, left)


def folders(engine: Engine, limit: int | None = None) -> list[str]:
    """Those that were ever scanned, the last one first; `limit`: of them; None: all."""
    order = (FOLDER.c.scanned_at.desc(), FOLDER.c.path)
    with engine.connect() as connection:
        return list(connection.execute(select(FOLDER.c.path).order_by(*order).limit(limit)).scalars())


def folder_scanned(connection: Connection, folder: str) -> None:
    if not connection.execute(update(FOLDER).where(FOLDER.c.path == folder).values(scanned_at=now())).rowcount:
        connection.execute(insert(FOLDER).values(path=folder, added_at=now(), scanned_at=now()))
