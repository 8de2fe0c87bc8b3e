"""Paths that come over the network stay inside the folders that a setting names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from registry.errors import PathRefused


def admit(path: Path, folders: Iterable[Path] | None) -> Path:
    """The real place of `path`, whatever links lead there; None admits every place.

    Raises PathRefused unless it is in one of `folders`; of what does not exist, too, in the same words: nobody learns from outside what
    there is. To be asked of every single file, at the moment when it is opened, and what it returns is what is opened.
    """
    real = path.resolve()
    if folders is not None and not any(real.is_relative_to(folder.resolve()) for folder in folders):
        raise PathRefused(
            f"{path} is not in a folder that may be asked for over the network. MODELSHELF_ALLOWED_FOLDERS names those; the command "
            "line takes every path.",
            path=str(path),
        )
    return real
