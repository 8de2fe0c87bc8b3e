"""Which shelf a command works on: that of the service which `--server` or the setting names, else this machine's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api.cli.shelf import Shelf
    from registry.manager import Manager
    from registry.settings import Settings

SERVER: ContextVar[str | None] = ContextVar("server", default=None)
"""What `--server` says; None: what the setting says."""


def chosen_server(settings: Settings) -> str | None:
    return SERVER.get() or settings.server


@contextmanager
def opened_shelf() -> Iterator[Shelf]:
    from registry.settings import Settings

    settings = Settings()
    if server := chosen_server(settings):
        from api.cli.remote import RemoteShelf

        with RemoteShelf(server, settings.token) as remote:
            yield remote
    else:
        from api.cli.local import LocalShelf

        with LocalShelf(settings) as local:
            yield local


@contextmanager
def managed(settings: Settings) -> Iterator[Manager]:
    from registry.manager import build_manager

    manager = build_manager(settings)
    try:
        yield manager
    finally:
        manager.close()
