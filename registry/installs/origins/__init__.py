"""Where files come from: the Hub, a folder on disk, or one file behind an https address; all read in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from registry.errors import InvalidSource
from registry.installs.origins.access import Access, Civitai
from registry.installs.origins.base import (
    Informed,
    Listing,
    Origin,
    RangeIgnored,
    RangeUnsatisfiable,
    RemoteFile,
    Stream,
)
from registry.sources import HubSource, PathSource, Source, StarterSource, UrlSource

__all__ = ["Informed", "Listing", "Origin", "RangeIgnored", "RangeUnsatisfiable", "RemoteFile", "Stream", "open_origin"]


def _go_on() -> None:
    """Nobody asks to stop."""


def open_origin(
    source: Source,
    *,
    endpoint: str,
    token: str | None,
    timeout: float,
    access: Access,
    civitai: Civitai | None = None,
    check: Callable[[], None] = _go_on,
    folders: Sequence[Path] | None = None,
) -> Origin:
    """The origin of `source`; a context manager. Nothing is asked of it yet.

    `endpoint`, `token`: of the Hub; the token goes to no other host. `timeout`: seconds without a byte after which a
    connection counts as lost. `access`: the machines that may be spoken to. `civitai`: unset, civitai.com without an account.
    `check`: called during every wait; what it raises ends it. `folders`: of this machine, those that may be read from; None: every one.
    httpx and huggingface_hub are imported only for the origins that need them. Raises HostRefused, InvalidSource.
    """
    match source:
        case HubSource():
            from registry.installs.origins.hub import HubOrigin

            return HubOrigin(source, endpoint=endpoint, token=token, timeout=timeout, access=access, check=check)
        case UrlSource():
            from registry.installs.origins.civitai import CivitaiOrigin
            from registry.installs.origins.url import UrlOrigin

            if (civitai := civitai or Civitai()).has(source):
                return CivitaiOrigin(source, civitai, timeout=timeout, access=access, check=check)
            return UrlOrigin(source, timeout=timeout, access=access, check=check)
        case PathSource():
            from registry.installs.origins.folder import FolderOrigin

            return FolderOrigin(source, folders)
        case StarterSource():
            from registry.installs.origins.folder import FolderOrigin
            from registry.starter import starter_repository

            if (folder := starter_repository(source.name)) is None:  # of another release
                raise InvalidSource(f"{source} does not ship with this modelshelf.")
            return FolderOrigin(PathSource(folder), [folder], str(source))
