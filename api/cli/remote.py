"""The shelf of a running service, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from api.cli.shelf import OnProgress
from api.client import Client
from api.records import Generation, Install, Model, Scan
from registry.errors import Cancelled, ModelshelfError


class RemoteShelf(Client):
    def __init__(self, url: str, token: str | None) -> None:
        super().__init__(url, token)
        self._followed: list[str] = []
        self._interrupted = False

    def locate(self, path: str) -> str:
        """As the service says it: relative to its root when inside it."""
        return path

    def install_starter(self, on_progress: OnProgress) -> Iterator[Model]:
        submitted = self.submit_starter()
        self._followed += [install.id for install in submitted]
        for install in submitted:
            yield self.finish_install(install.id, on_progress)

    def finish_install(self, install_id: str, on_progress: OnProgress = lambda _: None) -> Model:
        self._followed.append(install_id)

        def follow(install: Install) -> None:
            on_progress(install)
            if self._interrupted:  # a paused one has no end that could be waited for
                raise Cancelled(f"The install was {install.state}; what has arrived is kept.", install=install_id)

        return super().finish_install(install_id, follow)

    def interrupt(self) -> None:
        """The installs that are followed are paused; whoever follows them sees it."""
        self._interrupted = True
        for install_id in self._followed:
            with suppress(ModelshelfError):  # it has ended
                self.order_install(install_id, "pause")

    def interrupted(self) -> list[Install]:
        found: list[Install] = []
        for install_id in dict.fromkeys(self._followed):
            # One that was discarded, or a service that is gone, must hide neither the others nor that Ctrl-C was pressed.
            with suppress(ModelshelfError):
                found.append(self.get_install(install_id))
        return [i for i in found if i.state == "paused"]

    def scan(self, folder: str, *, afresh: bool = False) -> Scan:
        *_, ended = self.scan_events(self.submit_scan(folder, afresh=afresh).id)
        if ended.error:
            raise ended.error.error
        return ended

    def made_again(self, made: Generation) -> str:
        """How to have pictures that could not be saved: the service keeps them for a while."""
        return f"Generation {made.id} is kept for a while: GET {self.url}/v1/generations/{made.id} has its pictures."
