"""Paths that come over the network stay inside the folders that a setting names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from registry.errors import PathRefused


def check_inside(path: Path, folders: Iterable[Path]) -> None:
    """Raise PathRefused unless `path`, and every file that a link in it leads to, lies in one of `folders`.

    What does not exist is refused in the same words: nobody learns from outside what there is.
    """
    allowed = [folder.resolve() for folder in folders]
    links = (Path(place, name) for place, _, names in os.walk(path) for name in names if Path(place, name).is_symlink())
    for each in (path, *links):
        real = each.resolve()
        if not any(real.is_relative_to(folder) for folder in allowed):
            raise PathRefused(
                f"{path} is not in a folder that may be installed from over the network. MODELSHELF_ALLOWED_FOLDERS names "
                "those; the command line takes every path.",
                path=str(path),
            )
