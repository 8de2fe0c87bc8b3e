"""Which files on the shelf modelshelf has put there itself: the only ones that it ever removes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from sqlalchemy import Connection, and_, delete, or_, select

from registry.rows import MODEL, in_parts, insert_new, table_of
from registry.tables import FileRow, PlacedRow

PLACED, FILE = table_of(PlacedRow), table_of(FileRow)


def own(connection: Connection, model_ids: Iterable[str]) -> None:
    """The files of these models, where they are modelshelf's own, as they are on record."""
    query = select(MODEL.c.path, FILE.c.path).join(FILE, FILE.c.model_id == MODEL.c.id).where(MODEL.c.managed)
    for some in in_parts(list(model_ids)):
        paths = connection.execute(query.where(MODEL.c.id.in_(some))).all()
        insert_new(connection, PLACED, [{"path": f"{path}/{inside}" if inside else path} for path, inside in paths])


def disown(connection: Connection, path: str) -> None:
    """What was at `path`, a file or a folder, is not there any more: whatever somebody puts there is his."""
    inside = and_(PLACED.c.path > f"{path}/", PLACED.c.path < f"{path}0")  # `0` stands behind `/`
    connection.execute(delete(PLACED).where(or_(PLACED.c.path == path, inside)))


def stray(connection: Connection, root: Path) -> Iterator[str]:
    """Paths, relative to `root`, of those that are there and belong to no model.

    They are listed before the models, so that one that is installed meanwhile is in neither list.
    """
    placed = connection.execute(select(PLACED.c.path).order_by(PLACED.c.path)).scalars().all()
    models = set(connection.execute(select(MODEL.c.path)).scalars())
    for path in placed:
        if models.isdisjoint(_upwards(path)) and is_stray(connection, root, path):
            yield path


def is_stray(connection: Connection, root: Path, path: str) -> bool:
    """Whether it is there, and neither it nor a folder that it is in is a model, by whatever name: scanned models have real paths."""
    file = root / path
    if file.is_symlink() or not file.is_file():
        return False
    home, real = os.path.realpath(root), os.path.realpath(file)
    names = {
        *_upwards(path),
        *_upwards(real),
        *(_upwards(os.path.relpath(real, home)) if real.startswith(home + "/") else ()),
    }
    return connection.execute(select(MODEL.c.id).where(MODEL.c.path.in_(names))).first() is None


def _upwards(path: str) -> Iterator[str]:
    pure = PurePosixPath(path)
    return (str(p) for p in (pure, *pure.parents))
