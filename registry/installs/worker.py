"""Runs installs, each from its source to its end, and knows which of them nobody works on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from threading import Event

from sqlalchemy import Engine

from probes import UnreadableModel
from registry.catalog import Catalog
from registry.db import is_full
from registry.errors import Cancelled, InstallNotFound, ModelshelfError, StorageFull, UnusableFile
from registry.installs.crew import Aside, stay
from registry.installs.download import to_spare
from registry.installs.examine import accept, connection, examine
from registry.installs.job import Job, Register, Say
from registry.installs.known import words_before
from registry.installs.locks import held, held_if_free
from registry.installs.moving import remove_moved
from registry.installs.options import AS_USUAL, Options, Place
from registry.installs.origins import open_origin
from registry.installs.progress import OnProgress, Progress
from registry.installs.states import ACTIVE, COMMANDS, ENDED, Attempt, InstallBook
from registry.installs.transfers import Transfers
from registry.measures import Measures, What
from registry.models import Model, new_id
from registry.previews import Previews
from registry.settings import Settings
from registry.sources import Source, parse_source, without_signature
from registry.tables import Install, InstallState, now

__all__ = ["OnProgress", "Progress", "Worker"]

logger = logging.getLogger(__name__)

SIGNED = timedelta(days=1)
"""How long what signs an address is kept after its install has ended in vain; S3 lets it hold for a week at most, the Hub for an hour."""


class Worker:
    """Runs installs, each in the thread that calls. `stop()` makes them all let go, to be taken up by the next service."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        book: InstallBook,
        catalog: Catalog,
        previews: Previews,
        register: Register,
        say: Say,
        registered: Callable[[], None] = lambda: None,
        measures: Measures | None = None,
    ) -> None:
        """`registered` is called when a model is in its place and on record, before its install counts as done. `register` and `say`: see
        Job."""
        self._register = register
        self._say = say
        self._registered = registered
        self._measures = measures or Measures()
        self._previews = previews
        self._settings = settings
        self._engine = engine
        self._book = book
        self._catalog = catalog
        self._stop = Event()
        self._left = InstallState.QUEUED
        self._let_go: list[str] = []
        self._locks = settings.downloads / "locks"

    def open(self, text: str, options: Options = AS_USUAL) -> Install:
        """Record the wish; raises InvalidRequest."""
        return self._book.open(str(self._source(text, options)), options=options.as_dict())

    def check(self, text: str, options: Options = AS_USUAL) -> None:
        """Raise now what an install would fail with at its first look at the source: a wrong address, a refused file."""
        try:
            with (
                self._measures.timed(What.PROBED),
                open_origin(
                    self._source(text, options), **connection(self._settings, confined=options.confined)
                ) as origin,
            ):
                candidate = examine(origin, options, lambda *offered: words_before(self._catalog, *offered))
            accept(candidate.report)
        except UnreadableModel as error:
            raise UnusableFile(str(error), probe=error.code) from error

    def install(self, text: str, on_progress: OnProgress = lambda _: None, options: Options = AS_USUAL) -> Model:
        """Record the wish and run it. Its lock is taken first: no service that looks for abandoned installs sees it free."""
        source, install_id = str(self._source(text, options)), new_id()
        with held(self._lock(install_id)):
            return self._run(
                self._book.open(source, id=install_id, options=options.as_dict()),
                on_progress,
                patient=False,
                aside=stay,
            )

    def run(self, install_id: str, on_progress: OnProgress = lambda _: None, aside: Aside = stay) -> Model:
        """A queued install to its end, whatever it is: returns the model, or records the error and raises it. While the network is away
        it waits, as long as the settings say, `aside`."""
        with held(self._lock(install_id), self._check_stop, aside):
            return self._run(self._book.get(install_id), on_progress, patient=True, aside=aside)

    def abandoned(self) -> Iterator[str]:
        """Ids of active installs, oldest first, that no process works on: a killed one's lock is free."""
        for install in reversed(self._book.list(states=ACTIVE, limit=None)):
            with held_if_free(self._lock(install.id)) as free:
                # Looked at again: whoever held the lock until now may have ended it.
                if not free or (state := self._book.get(install.id).state) not in ACTIVE:
                    continue
                if state != InstallState.QUEUED:
                    self._book.move(install.id, InstallState.QUEUED)
            yield install.id

    def sweep(self) -> None:
        """Remove partial files of installs that ended well, and what they moved: a kill may have come between such an end and that."""
        there = {path.name for path in self._settings.downloads.glob("*")} - {self._locks.name}
        # Most of them belong to installs that go on, and these are few; only for the others is it looked through all that ended well.
        ended = self._book.staging(self._unneeded(there), (InstallState.INSTALLED,))
        with ExitStack() as locks:
            free = {n for n in ended if locks.enter_context(held_if_free(self._locks / f"{n}.files"))}
            for staging, source, options in self._book.installed(free) if free else ():
                if staging is not None and Options.of(options).place is Place.MOVE:
                    remove_moved(self._engine, staging, Path(source))
            self._remove_staging(free)
            self._book.let_go(free)

    def make_room(self) -> None:
        """Queue again what a full disk has paused, once there is room for it."""
        free = to_spare(self._settings.root)
        for install in self._book.list(states=(InstallState.PAUSED,), limit=None):
            if (
                install.error
                and install.error["code"] == StorageFull.code
                and free >= install.error["detail"]["needed"]
            ):
                self._book.command(install.id, "resume")

    def discard(self, install_id: str) -> None:
        """Cancel an install that has not ended, and forget it and what has arrived of it. A model that it became stays."""
        if self._book.get(install_id).state in COMMANDS["cancel"].since:
            self._book.command(install_id, "cancel")
        with held(self._lock(install_id), self._check_stop):  # its worker lets go first
            install = self._book.get(install_id)
            self._book.forget([install_id])
        self._remove_staging({install.staging})

    def clean(self) -> None:
        """Forget installs that ended long ago, and remove partial files and locks that no install needs."""
        before = now() - timedelta(days=self._settings.keep_installs_days)
        old = [i for i in self._book.list(states=ENDED, limit=None) if i.updated_at < before]
        self._book.forget([i.id for i in old])
        for install in self._book.list(
            states=ENDED, limit=None
        ):  # one that failed may be tried again while its signature holds
            if install.updated_at < now() - SIGNED and (plain := without_signature(install.source)) != install.source:
                self._book.progress(install.id, source=plain)
        self._remove_staging({i.staging for i in old})
        for lock in self._locks.glob("*"):
            with held_if_free(lock):
                """Its end removes the file."""

    def stop(self, leave: InstallState = InstallState.QUEUED) -> None:
        """`leave`: the state of what is under way then; whatever it is, what has arrived is kept."""
        self._left = leave
        self._stop.set()

    def paused(self) -> list[Install]:
        """Those that were paused because this worker was stopped or interrupted."""
        found: list[Install] = []
        for install_id in self._let_go:
            with suppress(InstallNotFound):  # discarded meanwhile, which must not hide the others
                found.append(self._book.get(install_id))
        return [i for i in found if i.state == InstallState.PAUSED]

    def _run(self, install: Install, on_progress: OnProgress, *, patient: bool, aside: Aside) -> Model:
        if install.state == InstallState.INSTALLED and install.model_id:  # another process was quicker
            return self._catalog.get(install.model_id)
        attempt = self._book.attempt(install.id)
        job = Job(
            self._settings,
            self._engine,
            self._catalog,
            attempt,
            on_progress,
            self._stop,
            self._registered,
            self._previews,
            self._register,
            self._say,
            self._measures,
            patient=patient,
            aside=aside,
        )
        try:
            source = self._parse(install.source, confined=False)  # as `open` has recorded it: absolute
            where = connection(self._settings, confined=Options.of(install.options).confined)
            with open_origin(source, **where, check=job.check) as origin:
                model = job.run(origin)
            if attempt.install.staging is not None:
                self._book.let_go([attempt.install.staging])
            return model
        except KeyboardInterrupt:
            self._leave(attempt, InstallState.PAUSED)
            raise
        except Exception as error:
            told = _told(error, self._settings.root)
            self._record(attempt, told)
            if told is error:
                raise
            raise told from error
        finally:  # its source may name another file by now
            self._remove_staging({install.staging} - {attempt.install.staging})

    def _record(self, attempt: Attempt, error: ModelshelfError) -> None:
        detail = {"code": error.code, "message": error.message, "detail": error.detail}
        if isinstance(error, Cancelled):
            if self._stop.is_set():
                self._leave(attempt, self._left)
        elif isinstance(error, StorageFull):
            attempt.end(InstallState.PAUSED, detail)
        else:
            attempt.end(InstallState.FAILED, detail)

    def _leave(self, attempt: Attempt, state: InstallState) -> None:
        attempt.end(state)
        self._let_go.append(attempt.install.id)

    def _remove_staging(self, names: Collection[str | None]) -> None:
        """Remove folders of partial files that no install that may go on needs."""
        unneeded = self._unneeded({name for name in names if name is not None})
        for name in unneeded:
            shutil.rmtree(self._settings.downloads / name, ignore_errors=True)
        if unneeded:
            Transfers.forget(self._engine, unneeded)

    def _unneeded(self, names: set[str]) -> set[str]:
        return names - self._book.staging(names, set(InstallState) - {InstallState.INSTALLED})

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Cancelled("The service is stopping; what has arrived is kept.")

    def _lock(self, install_id: str) -> Path:
        """Held by the process that runs the install."""
        return self._locks / f"{install_id}.install"

    def _source(self, text: str, options: Options) -> Source:
        source = self._parse(text, options.confined)
        options.check(source)
        return source

    def _parse(self, text: str, confined: bool) -> Source:
        return parse_source(text, endpoint=self._settings.hub_endpoint, confined=confined)


def _told(error: Exception, root: Path) -> ModelshelfError:
    """The error as users are told it; one that nobody foresaw is logged with its traceback."""
    if isinstance(error, ModelshelfError):
        return error
    if isinstance(error, UnreadableModel):
        return UnusableFile(str(error), probe=error.code)
    if is_full(error):
        return StorageFull(f"The disk of {root} is full. Make room: the install goes on then.", needed=0, free=0)
    if isinstance(error, OSError) and error.filename is not None:
        return ModelshelfError(
            f"{error.filename} cannot be read or written: {error.strerror}.", file=str(error.filename)
        )
    logger.error("an install met an unforeseen error", exc_info=error)
    return ModelshelfError(f"An error of modelshelf itself: {type(error).__name__}: {error}")
