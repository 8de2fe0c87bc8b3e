"""One run of one install: its methods are the states, in order."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath
from threading import Event
from typing import Any

from probes import probe
from registry.catalog import Catalog
from registry.errors import Cancelled
from registry.installs.download import download
from registry.installs.examine import accept, examine, hints_for
from registry.installs.hashing import Digests
from registry.installs.locks import held
from registry.installs.origins import Listing, Origin
from registry.installs.placing import pinned, place
from registry.installs.selection import Selection
from registry.installs.states import Attempt
from registry.settings import Settings
from registry.tables import Model, State

RATE_SECONDS = 3.0  # a transfer's rate is the mean over them: steady enough to read, quick enough to show a stall


@dataclass(frozen=True, slots=True)
class Progress:
    """What an install is doing; bytes of the whole transfer."""

    state: State
    filename: str | None = None
    bytes_done: int = 0
    bytes_total: int = 0


OnProgress = Callable[[Progress], None]


class Job:
    """`check()` raises Cancelled as soon as the run is no longer wanted; everything that takes long calls it."""

    def __init__(
        self, settings: Settings, catalog: Catalog, attempt: Attempt, on_progress: OnProgress, stop: Event
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._attempt = attempt
        self._tell = on_progress
        self._stop = stop

    def check(self) -> None:
        if self._stop.is_set():
            raise Cancelled("The service is stopping; what has arrived is kept.")
        self._attempt.check()

    def run(self, origin: Origin) -> Model:
        self._tell(Progress(State.RESOLVING))
        candidate = examine(origin)
        accept(candidate.report)
        listing, selection = candidate.listing, candidate.selection
        key = _key(listing, selection)
        staging = self._settings.downloads / key
        locks = self._settings.downloads / "locks"
        # Two installs of the same files: the second waits, and then finds the model in the registry.
        with held(locks / f"{key}.files", self.check):
            if (known := self._known(listing, selection)) is not None:
                return self._installed(known)
            if listing.revision is None:
                # No commit pins its bytes: what an earlier run left may be of another version.
                shutil.rmtree(staging, ignore_errors=True)
            self._move(State.DOWNLOADING, bytes_total=selection.size, bytes_done=0, staging=key)
            digests = {
                file.path[len(selection.prefix) :]: digest
                for file, digest in zip(selection.files, self._download(origin, selection, key), strict=True)
            }
            self._move(State.PROBING, bytes_done=sum(d.size for d in digests.values()), bytes_per_second=None)
            staged = staging / ("model" if selection.is_folder else PurePosixPath(selection.files[0].path).name)
            report = accept(probe(staged, hints_for(listing, selection)))
            self._move(State.REGISTERING)
            # One at a time looks for a free name and takes it.
            with (
                held(locks / "names", self.check),
                place(self._catalog, self._settings.root, listing, selection, staged, report, digests) as model,
            ):
                self._installed(model)
            shutil.rmtree(staging)
            return model

    def _known(self, listing: Listing, selection: Selection) -> Model | None:
        """The same revision of the same source, or a file with the digest that the Hub announces, if it is still there."""
        announced = None if selection.is_folder else selection.files[0].sha256
        source = pinned(listing, selection) if listing.revision else None
        model = self._catalog.find(source=source, sha256=announced)
        return model if model is not None and self._catalog.path(model).exists() else None

    def _download(self, origin: Origin, selection: Selection, key: str) -> list[Digests]:
        """Fetch every file into the staging folder; what an earlier run finished is hashed, not fetched."""
        staging = self._settings.downloads / key
        digests: list[Digests] = []
        rate = _Rate()
        for file in selection.files:
            name = file.path[len(selection.prefix) :]
            target = staging / "model" / name if selection.is_folder else staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            before = sum(d.size for d in digests)

            def on_bytes(of_file: int, name: str = name, before: int = before) -> None:
                done = before + of_file
                self._tell(Progress(State.DOWNLOADING, name, done, selection.size))
                self._attempt.progress(bytes_done=done, filename=name, bytes_per_second=rate.of(done))

            part = target.with_name(target.name + ".part")
            if target.exists():
                # Complete, or it would not have its name: download() hashes it and asks for nothing more.
                target.replace(part)
            digests.append(download(origin, file, part, on_bytes=on_bytes, check=self.check))
            part.replace(target)
        return digests

    def _installed(self, model: Model) -> Model:
        self._move(State.INSTALLED, model_id=model.id, filename=None, bytes_per_second=None)
        return model

    def _move(self, to: State, **fields: Any) -> None:
        install = self._attempt.move(to, **fields)
        self._tell(Progress(to, None, install.bytes_done, install.bytes_total))


class _Rate:
    """Bytes a second over the last RATE_SECONDS; None until there is something to tell."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def of(self, done: int) -> float | None:
        now = time.monotonic()
        if self._points and done < self._points[-1][1]:  # begun anew
            self._points.clear()
        self._points.append((now, done))
        while len(self._points) > 2 and self._points[1][0] < now - RATE_SECONDS:
            self._points.popleft()
        (since, first), seconds = self._points[0], now - self._points[0][0]
        return (done - first) / seconds if seconds > 0 and since != now else None


def _key(listing: Listing, selection: Selection) -> str:
    """Name of the staging folder: the same files of the same revision share it, so that an interrupted download is found again."""
    identity: Mapping[str, Any] = {f.path: (f.size, f.sha256) for f in selection.files}
    lines = [pinned(listing, selection), *(f"{path} {size} {digest}" for path, (size, digest) in identity.items())]
    return sha256("\n".join(lines).encode()).hexdigest()[:24]
