"""One run of one install: its methods are the states, in order."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any

from sqlalchemy import Engine

from probes import Report, probe
from registry.catalog import Catalog
from registry.errors import (
    Cancelled,
    DigestMismatch,
    DownloadIncomplete,
    DownloadShort,
    FileMissing,
    HubUnreachable,
    HubUnusable,
    InvalidSource,
    ModelshelfError,
)
from registry.installs import partial
from registry.installs.beside import on_disk
from registry.installs.crew import Aside
from registry.installs.describing import describe
from registry.installs.download import Watch, check_room, download, verify
from registry.installs.examine import Candidate, accept, examine, hints_for
from registry.installs.hashing import Digests, hash_file
from registry.installs.known import known, words_before
from registry.installs.locks import Locks, held
from registry.installs.moving import remove_moved
from registry.installs.options import Options, Place
from registry.installs.origins import Listing, Origin, RemoteFile
from registry.installs.origins.folder import FolderOrigin, version
from registry.installs.pauses import Pauses
from registry.installs.placing import gain_source, place
from registry.installs.progress import Count, OnProgress, Progress, Rate
from registry.installs.selection import Selection
from registry.installs.states import POLL_SECONDS, Attempt
from registry.installs.transfers import Transfers
from registry.measures import Measures
from registry.models import Model
from registry.previews import Previews
from registry.settings import Settings
from registry.sources import PathSource, without_signature
from registry.tables import InstallState
from registry.words import Words

Register = Callable[[Path, Words], Model]
Say = Callable[[Model, Words], Model]
LASTING = (HubUnusable, DownloadShort)
"""What waiting does not cure."""


class Job:
    """`check()` raises Cancelled as soon as the run is no longer wanted; everything that takes long calls it."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        catalog: Catalog,
        attempt: Attempt,
        on_progress: OnProgress,
        stop: Event,
        registered: Callable[[], None],
        previews: Previews,
        register: Register,
        say: Say,
        measures: Measures,
        *,
        patient: bool,
        aside: Aside,
    ) -> None:
        """`register`: records a model where it lies; `say`: what the user says of one that is on record. `patient`: nobody waits for it, so
        it waits for a network that is away, also before anything has come; one that somebody has just typed tells at once. `aside`: lets
        others work while it waits."""
        self._aside = aside
        self._previews = previews
        self._register = register
        self._say = say
        self._options = Options.of(attempt.install.options)
        self._registered = registered
        self._measures = measures
        self._settings = settings
        self._engine = engine
        self._catalog = catalog
        self._attempt = attempt
        self._tell = on_progress
        self._stop = stop
        self._patient = patient or attempt.install.staging is not None
        self._notes: list[str] = []  # for people, of what came of it

    def check(self) -> None:
        if self._stop.is_set():
            raise Cancelled("The service is stopping; what has arrived is kept.")
        self._attempt.check()

    def run(self, origin: Origin) -> Model:
        self._tell(Progress(InstallState.RESOLVING))
        candidate = self._examined(origin)
        accept(candidate.report)
        listing, selection = candidate.listing, candidate.selection
        if listing.left_out:
            self._note(_passed_over(listing))
        if self._options.place is Place.IN_PLACE:
            model = self._register(on_disk(listing, selection), candidate.words)
            self._registered()
            return self._installed(model)
        key = _key(listing, selection, self._options)
        staging = self._settings.downloads / key
        locks = self._settings.downloads / "locks"
        announced = {file.sha256 for file in selection.files if file.sha256}
        # Two installs of the same files, or of some bytes that both need: the second waits, and then finds them on the shelf.
        bytes_of = Locks((locks / f"{_name_of(digest)}.bytes" for digest in announced), self.check, self._aside)
        with held(locks / f"{key}.files", self.check, self._aside), bytes_of:
            if (there := known(self._catalog, listing, selection)) is not None:
                self._note(f"Nothing was downloaded: {there.name} is on the shelf already.")
                model = self._installed(self._told(gain_source(self._catalog, there, listing, selection)))
                shutil.rmtree(
                    staging, ignore_errors=True
                )  # there after a kill between the model's record and the install's
                return model
            self._move(InstallState.DOWNLOADING, bytes_total=selection.size, bytes_done=0, staging=key)
            digests = self._download(origin, candidate, staging, bytes_of)
            self._move(InstallState.PROBING, bytes_done=sum(d.size for d in digests.values()), bytes_per_second=None)
            staged = staging / _staged(selection, candidate.report)
            report = accept(probe(staged, hints_for(origin, listing, selection, candidate.words)))
            digest = None if selection.is_folder else next(iter(digests.values())).sha256
            hub = self._settings.hub_endpoint
            described = describe(origin, listing, selection, staged, digest, self._previews, hub)
            self._notes += described.notes
            self._move(InstallState.REGISTERING)
            # One at a time looks for a free name and takes it.
            with (
                held(locks / "names", self.check, self._aside),
                place(
                    self._catalog,
                    self._settings.root,
                    replace(candidate, report=report),
                    staged,
                    digests,
                    described.said,
                ) as placed,
            ):
                for note in placed.notes:
                    self._note(note)
                if not placed.is_new:  # then nothing was moved, and after a kill nothing is
                    Transfers.forget(self._engine, [key])
                self._registered()
                model = self._installed(self._told(placed.model))
            if self._options.place is Place.MOVE:
                remove_moved(self._engine, key, Path(listing.source))
            shutil.rmtree(staging)
            return model

    def _download(self, origin: Origin, candidate: Candidate, staging: Path, bytes_of: Locks) -> dict[str, Digests]:
        """Fetch every file into the staging folder; what an earlier run finished is hashed, not fetched. `bytes_of`: who brings them."""
        listing, selection = candidate.listing, candidate.selection
        staged = staging / _staged(selection, candidate.report)
        transfers = Transfers(self._engine, staging.name)
        goals = [_Goal(file, staged / selection.inside(file)) for file in selection.files]
        transfers.keep_only([goal.file.path for goal in goals])
        if selection.is_folder:
            _keep_only(staged, goals)
        for goal in goals:
            goal.prepare(is_same_version=(record := transfers.take_up(listing, goal.file)) is not None)
            goal.etag = record.etag if record else None
        if self._options.place is not Place.MOVE:  # which as a rule needs none
            check_room(self._settings.root, selection.size - sum(goal.here for goal in goals), selection.name)
        digests: dict[str, Digests] = {}
        rate = Rate()
        for goal in goals:
            name, before = selection.inside(goal.file) or goal.file.path, sum(d.size for d in digests.values())

            def on_bytes(of_file: int, name: str = name, before: int = before) -> None:
                done = before + of_file
                self._tell(Progress(InstallState.DOWNLOADING, name, done, selection.size))
                self._attempt.progress(bytes_done=done, filename=name, bytes_per_second=rate.of(done), error=None)

            source = on_disk(listing, selection, goal.file) if self._options.place is Place.MOVE else None
            here = self._kept(goal) or self._from_source(source, goal) or self._from_shelf(goal, name)
            if here is not None:
                digests[name] = here
                on_bytes(here.size)
                continue
            count = Count(self._measures, goal.begun)

            def on_arrival(of_file: int, count: Count = count, on_bytes: Callable[[int], None] = on_bytes) -> None:
                count.to(of_file)
                on_bytes(of_file)

            def on_etag(etag: str | None, path: str = goal.file.path) -> None:
                transfers.set_etag(path, etag)

            watch = Watch(on_arrival, on_etag, self.check)
            digests[name] = self._fetch(origin, goal, name, watch, bytes_of)
        return digests

    def _examined(self, origin: Origin) -> Candidate:
        """Of an install that is patient, also when the network is away for a while: after a restart it may be the last to come up."""
        pauses = Pauses(self._settings.download_patience)
        while True:
            try:
                return examine(origin, self._options, lambda *offered: words_before(self._catalog, *offered))
            except HubUnreachable as error:
                if not self._patient:
                    raise
                self._wait(pauses, error)

    def _fetch(self, origin: Origin, goal: _Goal, name: str, watch: Watch, bytes_of: Locks) -> Digests:
        """The file, also when the connection is away for a while: that is waited out, shown, as long as the settings say. What never came
        at all is no lost connection, and is told at once. Meanwhile another install may bring the same bytes from elsewhere."""
        most, here, pauses = self._settings.download_connections, 0, Pauses(self._settings.download_patience)
        while True:
            try:
                digests = download(origin, goal.file, goal.part, watch, etag=goal.etag, connections=most)
            except (HubUnreachable, DownloadIncomplete) as error:
                if goal.here > here:
                    here, pauses = goal.here, Pauses(self._settings.download_patience)
                if not here and not self._patient:
                    raise
                with bytes_of.lent():
                    self._wait(pauses, error)
                if (there := self._from_shelf(goal, name)) is not None:
                    return there
            else:
                goal.part.replace(goal.target)
                return digests

    def _wait(self, pauses: Pauses, error: ModelshelfError) -> None:
        """Until the next try, telling why; raises `error` when it has been waited for long enough, or waiting does not help."""
        pause = 0.0 if isinstance(error, LASTING) else pauses.next(error)
        if pause <= 0:
            raise error
        trouble = f"{error.message} The next try is in {pause:.0f} s."
        told = {"code": error.code, "message": trouble, "detail": error.detail}
        now = self._attempt.install
        self._tell(Progress(InstallState(now.state), now.filename, now.bytes_done, now.bytes_total, trouble))
        until = time.monotonic() + pause
        with self._aside(self.check):
            while time.monotonic() < until:
                self.check()
                self._attempt.progress(error=told, bytes_per_second=None)
                time.sleep(min(POLL_SECONDS, pause))

    def _kept(self, goal: _Goal) -> Digests | None:
        """What an earlier run brought whole, hashed where it lies: it may be a name of a model's file, to which nothing is ever written."""
        if not goal.target.exists():
            return None
        digests = hash_file(goal.target, self.check, git_size=goal.file.size if goal.file.git else None)
        try:
            verify(goal.file, digests)
        except DigestMismatch:
            goal.target.unlink()
            return None
        return digests

    def _from_source(self, source: Path | None, goal: _Goal) -> Digests | None:
        """The source's own bytes under another name: on one file system a move copies nothing, and until the model is on record nothing
        has gone. A file of several names stays somebody else's: it is copied."""
        if source is None or source.is_symlink() or source.stat().st_nlink > 1 or not _link(source, goal.target):
            return None
        digests = self._kept(goal)
        if digests is None or version(goal.target) == goal.file.etag:
            return digests
        goal.target.unlink()  # it is being written to
        return None

    def _from_shelf(self, goal: _Goal, name: str) -> Digests | None:
        """Take a file of a model that is there, when its bytes are what the origin announces: one of modelshelf's own by another name, one
        that the user's other programs may write to as a copy."""
        shelf = None if goal.file.sha256 is None else self._catalog.holding(goal.file.sha256)
        if shelf is None or shelf.path.stat().st_size != goal.file.size:
            return None
        if shelf.managed and _link(shelf.path, goal.target):
            partial.drop(goal.part)
            digests = self._kept(goal)
        else:
            digests = self._copied(shelf.path, goal)
        if digests is not None:
            self._note(f"{name} was not downloaded: the same file is on the shelf.")
        return digests

    def _copied(self, path: Path, goal: _Goal) -> Digests | None:
        try:
            file = replace(goal.file, path=path.name)
            digests = download(FolderOrigin(PathSource(path)), file, goal.part, Watch(check=self.check))
        except (DigestMismatch, DownloadIncomplete, InvalidSource, FileMissing):
            partial.drop(goal.part)  # it is being written to
            return None
        goal.part.replace(goal.target)
        return digests

    def _told(self, model: Model) -> Model:
        """With what the user says of it now: it may be on the shelf without."""
        return self._say(model, self._options.words) if self._options.words else model

    def _note(self, text: str) -> None:
        self._notes.append(text)

    def _installed(self, model: Model) -> Model:
        done = {"source": without_signature(self._attempt.install.source), "notes": self._notes}
        self._move(InstallState.INSTALLED, model_id=model.id, filename=None, bytes_per_second=None, **done)
        return model

    def _move(self, to: InstallState, **fields: Any) -> None:
        install = self._attempt.move(to, error=None, **fields)
        self._tell(Progress(to, None, install.bytes_done, install.bytes_total))


def _passed_over(listing: Listing) -> str:
    names = [repr(file.path) for file in listing.left_out]
    some = ", ".join(names[:3]) + (" and more" if len(names) > 3 else "")
    count = "A file was" if len(names) == 1 else f"{len(names)} files were"
    return f"{count} passed over, for names that not every system takes: {some}. The model does not need them."


def _link(path: Path, name: Path) -> bool:
    """Whether the file has another `name` now: not on another file system, or one without links."""
    try:
        name.hardlink_to(path)
    except OSError:
        return False
    return True


def _staged(selection: Selection, report: Report) -> str:
    """What the download is called until it has its final name: a stranger's file name may be too long for this disk. Its ending says
    what the bytes are, whatever the stranger's says: on the shelf readers go by it."""
    return "model" if selection.is_folder else f"model.{report.format}"


@dataclass(slots=True)
class _Goal:
    """A file to fetch, and where: `target` has its name only when the file is whole, and may be a name of somebody's file; `part`
    is its beginning, which alone is written to, with the blocks beside it."""

    file: RemoteFile
    target: Path
    etag: str | None = None

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def here(self) -> int:
        """Bytes that need not be fetched."""
        return partial.arrived(self.part) + (self.target.stat().st_size if self.target.exists() else 0)

    @property
    def begun(self) -> int:
        """Bytes of its beginning that are there."""
        return self.part.stat().st_size if self.part.exists() else 0

    def prepare(self, *, is_same_version: bool) -> None:
        """Make ready for what comes, beside what an earlier run left; of another version, nothing of that is of use."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        if not is_same_version:
            partial.drop(self.part)
            self.target.unlink(missing_ok=True)


def _name_of(digest: str) -> str:
    """For a lock's file: what a source announces may be any text."""
    return sha256(digest.encode()).hexdigest()[:24]


def _key(listing: Listing, selection: Selection, options: Options) -> str:
    """Name of the staging folder: the same files of the same source share it, so that an interrupted download is found again, also when
    there is a new commit meanwhile. Which of its files are still the same, Transfers knows."""
    part = selection.prefix if selection.is_folder else selection.files[0].path
    identity = (listing.repo_id or listing.source, listing.ref, part, options.variant, options.place)
    return sha256("\n".join(map(str, identity)).encode()).hexdigest()[:24]


def _keep_only(folder: Path, goals: Iterable[_Goal]) -> None:
    """Remove what an earlier run left of files that the source does not have any more: the folder becomes the model."""
    wanted = {path for goal in goals for path in (goal.target, goal.part, *partial.blocks(goal.part).values())}
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_dir() and path not in wanted:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
