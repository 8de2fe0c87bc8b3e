"""What other programs left beside a file that is to be installed, wherever it is."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from registry.installs.origins import Listing, Origin, RemoteFile
from registry.installs.origins.folder import FolderOrigin
from registry.installs.selection import Selection
from registry.sidecars import LIMIT, Said, read, read_beside


def beside(origin: Origin, listing: Listing, path: str) -> list[Said]:
    """The listed file at `path`."""
    if isinstance(origin, FolderOrigin):
        return read_beside(_root(listing) / path, origin.may_read)
    files = {file.path: file for file in listing.files}
    stem = str(PurePosixPath(path).with_suffix(""))
    return read(stem, lambda name: origin.read(files[name], 0, LIMIT) if name in files else None)


def on_disk(listing: Listing, selection: Selection, file: RemoteFile | None = None) -> Path:
    """Of a listing of this machine's: where what was selected lies, or one of its files."""
    if file is None and selection.is_folder:
        return _root(listing) / selection.prefix
    return _root(listing) / (file or selection.files[0]).path


def _root(listing: Listing) -> Path:
    assert listing.root is not None, f"{listing.source} is not on this machine"
    return listing.root
