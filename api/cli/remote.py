"""The shelf of a running service, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from api.cli.shelf import OnProgress
from api.client import Client
from api.records import Model, Scan
from registry.errors import ModelshelfError


class RemoteShelf(Client):
    def __init__(self, url: str, token: str | None) -> None:
        super().__init__(url, token)
        self._followed: set[str] = set()

    def locate(self, path: str) -> str:
        """As the service says it: relative to its root when inside it."""
        return path

    def install_starter(self, on_progress: OnProgress) -> Iterator[Model]:
        for install in self.submit_starter():
            yield self.finish_install(install.id, on_progress)

    def finish_install(self, install_id: str, on_progress: OnProgress = lambda _: None) -> Model:
        self._followed.add(install_id)
        return super().finish_install(install_id, on_progress)

    def interrupt(self) -> None:
        """The installs that are followed end, for good; what follows them sees it."""
        for install_id in self._followed:
            with suppress(ModelshelfError):  # it has ended
                self.order_install(install_id, "cancel")

    def scan(self, folder: str, *, afresh: bool = False) -> Scan:
        *_, ended = self.scan_events(self.submit_scan(folder, afresh=afresh).id)
        if ended.error:
            raise ended.error.error
        return ended
