"""The last step of a move: what the shelf has now goes from where it was."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sqlalchemy import Engine

from registry.installs.origins.folder import version
from registry.installs.transfers import Transfers


def remove_moved(engine: Engine, staging: str, source: Path) -> None:
    """Remove the files that an installed model was made of, by the record of its transfers, unless somebody has changed them meanwhile;
    and the folders that are empty then. What a kill has left of it, the next call does."""
    moved = Transfers(engine, staging).versions()
    if not source.exists() and set(moved) != {source.name}:  # a folder that is gone: all is done
        Transfers.forget(engine, [staging])
        return
    root = source if source.is_dir() else source.parent
    versions = {root / path: etag for path, etag in moved.items()}
    for path, etag in versions.items():
        with suppress(FileNotFoundError):
            if version(path) == etag:
                path.unlink()
    for folder in sorted({path.parent for path in versions}, reverse=True):
        with suppress(OSError):  # something else lies there
            if folder.is_relative_to(source):
                folder.rmdir()
    Transfers.forget(engine, [staging])
