"""Runs one install from its source to a recorded model."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, count
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any

from blake3 import blake3
from filelock import FileLock, Timeout

from probes import Kind, Report, UnreadableModel, probe, read_header
from registry.cards import parse_card
from registry.catalog import Catalog
from registry.errors import Cancelled, ModelshelfError, UnusableFile
from registry.installs.download import download
from registry.installs.examine import accept, connection, examine, hints_for
from registry.installs.hashing import Digests
from registry.installs.origins import Listing, Origin, open_origin
from registry.installs.selection import Selection
from registry.installs.states import ACTIVE, InstallBook
from registry.models import Model, ModelFile, Provenance, computed
from registry.recommended import statements, triggers
from registry.settings import Settings
from registry.sources import Source, parse_source
from registry.tables import Install, State, now

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.2  # between two writes of the byte count: people see no difference below it


@dataclass(frozen=True, slots=True)
class Progress:
    """What an install is doing; bytes of the whole transfer."""

    state: State
    filename: str | None = None
    bytes_done: int = 0
    bytes_total: int = 0


OnProgress = Callable[[Progress], None]


class Worker:
    """Runs installs, each in the thread that calls. `stop()` makes them all let go, to be taken up by the next service."""

    def __init__(self, settings: Settings, book: InstallBook, catalog: Catalog) -> None:
        self._settings = settings
        self._book = book
        self._catalog = catalog
        self._stop = Event()
        self._locks = settings.downloads / "locks"

    def open(self, text: str) -> Install:
        """Record the wish; raises InvalidSource."""
        return self._book.open(str(self._parse(text)))

    def check(self, text: str) -> None:
        """Raise now what an install would fail with at its first look at the source: a wrong address, a refused file."""
        try:
            with open_origin(self._parse(text), **connection(self._settings)) as origin:
                accept(examine(origin).report)
        except UnreadableModel as error:
            raise UnusableFile(str(error), probe=error.code) from error

    def run(self, install_id: str, on_progress: OnProgress = lambda _: None) -> Model:
        """To the end, whatever it is: returns the model, or records the error and raises it."""
        job = _Job(self._settings, self._book, self._catalog, install_id, on_progress, self._stop)
        lock = self._lock(install_id)
        with lock:
            try:
                source = self._parse(self._book.get(install_id).source)
                with open_origin(source, **connection(self._settings)) as origin:
                    return job.run(origin)
            except KeyboardInterrupt:
                self._book.end(install_id, State.CANCELLED)
                raise
            except Exception as error:
                told = _told(error)
                if self._stop.is_set() and isinstance(error, Cancelled):
                    self._book.end(install_id, State.QUEUED)
                else:
                    detail = {"code": told.code, "message": told.message, "detail": told.detail}
                    self._book.end(install_id, State.FAILED, detail)
                if told is error:
                    raise
                raise told from error
            finally:
                Path(lock.lock_file).unlink()

    def abandoned(self) -> Iterator[str]:
        """Ids of active installs, oldest first, that no process works on: a killed one's lock is free."""
        for install in reversed(self._book.list(states=ACTIVE, limit=None)):
            try:
                with self._lock(install.id).acquire(blocking=False):
                    if install.state != State.QUEUED:
                        self._book.move(install.id, State.QUEUED)
            except Timeout:
                continue
            yield install.id

    def stop(self) -> None:
        self._stop.set()

    def _lock(self, install_id: str) -> FileLock:
        """Held by the process that runs the install, and let go by the kernel if that is killed."""
        self._locks.mkdir(parents=True, exist_ok=True)
        return FileLock(self._locks / f"{install_id}.install")

    def _parse(self, text: str) -> Source:
        return parse_source(text, endpoint=self._settings.hub_endpoint)


class _Job:
    """One run of one install; its methods are the states, in order."""

    def __init__(
        self,
        settings: Settings,
        book: InstallBook,
        catalog: Catalog,
        install_id: str,
        on_progress: OnProgress,
        stop: Event,
    ) -> None:
        self._settings = settings
        self._book = book
        self._catalog = catalog
        self._id = install_id
        self._tell = on_progress
        self._stop = stop
        self._withdrawn = False  # somebody has cancelled or paused the install

    def run(self, origin: Origin) -> Model:
        self._move(State.RESOLVING)
        candidate = examine(origin)
        accept(candidate.report)
        listing, selection = candidate.listing, candidate.selection
        key = _key(listing, selection)
        staging = self._settings.downloads / key
        # Two installs of the same files: the second waits, and then finds the model in the registry.
        with FileLock(self._settings.downloads / "locks" / f"{key}.files"):
            if (known := self._known(listing, selection)) is not None:
                return self._installed(known)
            if listing.revision is None:
                # No commit pins its bytes: what an earlier run left may be of another version.
                shutil.rmtree(staging, ignore_errors=True)
            digests = self._download(origin, selection, staging)
            self._move(State.PROBING)
            staged = staging / ("model" if selection.is_folder else PurePosixPath(selection.files[0].path).name)
            report = accept(probe(staged, hints_for(listing, selection)))
            self._move(State.REGISTERING)
            # One at a time looks for a free name and takes it.
            with FileLock(self._settings.downloads / "locks" / "names"):
                model = self._register(listing, selection, staged, report, digests)
            shutil.rmtree(staging)
            return self._installed(model)

    def _known(self, listing: Listing, selection: Selection) -> Model | None:
        """The same revision of the same source, or a file with the digest that the Hub announces."""
        announced = None if selection.is_folder else selection.files[0].sha256
        return self._present(source=_pinned(listing, selection) if listing.revision else None, sha256=announced)

    def _present(self, **criteria: str | None) -> Model | None:
        """The registry's model, if its file is still there; a model whose file somebody deleted is forgotten."""
        model = self._catalog.find(**criteria)
        if model is None or self._catalog.path(model).exists():
            return model
        self._catalog.remove(model)
        return None

    def _download(self, origin: Origin, selection: Selection, staging: Path) -> Mapping[str, Digests]:
        """Fetch every file into `staging`; what an earlier run finished is hashed, not fetched."""
        self._move(State.DOWNLOADING, bytes_total=selection.size, bytes_done=0)
        done, told = 0, 0.0
        digests: dict[str, Digests] = {}
        for file in selection.files:
            name = file.path[len(selection.prefix) :]
            target = staging / "model" / name if selection.is_folder else staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            before = done

            def on_bytes(of_file: int, name: str = name, before: int = before) -> None:
                nonlocal told
                self._tell(Progress(State.DOWNLOADING, name, before + of_file, selection.size))
                if time.monotonic() - told >= PROGRESS_SECONDS:
                    told = time.monotonic()
                    self._withdrawn = self._book.progress(self._id, before + of_file) not in ACTIVE

            part = target.with_name(target.name + ".part")
            if target.exists():
                # Complete, or it would not have its name: download() hashes it and asks for nothing more.
                target.replace(part)
            digests[name] = download(origin, file, part, on_bytes=on_bytes, cancelled=self._cancelled)
            part.replace(target)
            done += digests[name].size
        self._book.progress(self._id, done)
        return digests

    def _cancelled(self) -> bool:
        return self._withdrawn or self._stop.is_set()

    def _register(
        self, listing: Listing, selection: Selection, staged: Path, report: Report, digests: Mapping[str, Digests]
    ) -> Model:
        whole = _whole(selection, digests)
        if (same := self._present(blake3=whole.blake3)) is not None:
            return same
        card = parse_card(listing.card)
        is_adapter = report.kind != Kind.CHECKPOINT
        metadata = {} if selection.is_folder else read_header(staged).metadata
        name, path = self._free_name(staged, report, selection)
        model = Model(
            name=name,
            kind=str(report.kind),
            family=str(report.family),
            variant=report.variant,
            prediction_type=report.prediction_type,
            format=str(report.format),
            path=path.relative_to(self._settings.root).as_posix(),
            size=whole.size,
            hashed_at=now(),
            digests=computed(blake3=whole.blake3, sha256=whole.sha256, autov3=whole.autov3),
            sources=(_provenance(listing, selection),),
            trigger_words=tuple(triggers(metadata, card)) if is_adapter else (),
            statements=statements(metadata, card),
            tags=report.tags,
        )
        files = [
            ModelFile(n if selection.is_folder else "", d.size, d.sha256, d.blake3) for n, d in sorted(digests.items())
        ]
        self._catalog.add(model, report.as_dict(), files)
        # Row first: a kill in between leaves a row without a file, which the next install forgets, and never a file that nobody knows.
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            staged.replace(path)
        except OSError:
            self._catalog.remove(model)
            raise
        return model

    def _free_name(self, staged: Path, report: Report, selection: Selection) -> tuple[str, Path]:
        """A name that no model has, and its place, <root>/<kind>/<family>/<name>; a taken name gets a number."""
        shelf = self._settings.root / str(report.kind) / str(report.family)
        suffix = "" if selection.is_folder else staged.suffix
        base = re.sub(r"[^\w.+-]+", "-", selection.name).strip("-.") or "model"
        names = chain([base], (f"{base}-{number}" for number in count(2)))
        name = next(n for n in names if not self._catalog.has_name(n) and not (shelf / f"{n}{suffix}").exists())
        return name, shelf / f"{name}{suffix}"

    def _installed(self, model: Model) -> Model:
        self._move(State.INSTALLED, model_id=model.id)
        return model

    def _move(self, to: State, **fields: Any) -> None:
        install = self._book.move(self._id, to, **fields)
        self._tell(Progress(to, None, install.bytes_done, install.bytes_total))


def _pinned(listing: Listing, selection: Selection) -> str:
    """Canonical source of the selected files: the listing's, with the file or sub-folder that was chosen."""
    part = selection.prefix.rstrip("/") if selection.is_folder else selection.files[0].path
    return (
        f"{listing.source}/{part}"
        if part and listing.source.startswith("hf://") and not listing.focus
        else listing.source
    )


def _provenance(listing: Listing, selection: Selection) -> Provenance:
    """Where the selected files came from; `etag` and `path` are a single file's."""
    single = None if selection.is_folder else selection.files[0]
    return Provenance(
        url=_pinned(listing, selection),
        repo_id=listing.repo_id,
        revision=listing.revision,
        path=single.path if single and listing.repo_id else None,
        etag=single.sha256 if single else None,
    )


def _key(listing: Listing, selection: Selection) -> str:
    """Name of the staging folder: the same files of the same revision share it, so that an interrupted download is found again."""
    identity = "\n".join([_pinned(listing, selection), *(f"{f.path} {f.size} {f.sha256}" for f in selection.files)])
    return sha256(identity.encode()).hexdigest()[:24]


def _whole(selection: Selection, digests: Mapping[str, Digests]) -> Digests:
    """The model's own digests. A folder has no single SHA-256; its BLAKE3 is that of its sorted `path NUL blake3 LF` lines."""
    if not selection.is_folder:
        return next(iter(digests.values()))
    lines = "".join(f"{name}\0{d.blake3}\n" for name, d in sorted(digests.items()))
    return Digests(sum(d.size for d in digests.values()), blake3(lines.encode()).hexdigest(), "", None)


def _told(error: Exception) -> ModelshelfError:
    """The error as users are told it; one that nobody foresaw is logged with its traceback."""
    if isinstance(error, ModelshelfError):
        return error
    if isinstance(error, UnreadableModel):
        return UnusableFile(str(error), probe=error.code)
    logger.error("an install met an unforeseen error", exc_info=error)
    return ModelshelfError(f"An error of modelshelf itself: {type(error).__name__}: {error}")
