"""Scans in the background, one at a time, and the hashing that follows them."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from sqlalchemy import Engine

from registry.background import going_on
from registry.catalog import Catalog
from registry.errors import Cancelled, InvalidRequest, ModelshelfError, UnusableFile, WrongState
from registry.fits import Fits
from registry.installs.folders import admit
from registry.models import Model
from registry.scans.beside import MayRead, sidecars_and_card
from registry.scans.book import ScanBook, ScanState
from registry.scans.digesting import Digester
from registry.scans.record import folders, outdate
from registry.scans.scanner import Counts, OnProgress, Scanner
from registry.settings import Settings
from registry.tables import ScanRow
from registry.words import NOTHING_SAID, Words

logger = logging.getLogger(__name__)


class Scans:
    def __init__(self, settings: Settings, engine: Engine, catalog: Catalog, fits: Fits) -> None:
        self._settings = settings
        self._engine = engine
        self._catalog = catalog
        self._fits = fits
        self._stop = Event()
        self.book = ScanBook(engine)
        self.digester = Digester(engine, catalog, self._stop)
        self.scanner = Scanner(engine, catalog, sidecars_and_card)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scan")
        self._hashing = Thread(target=self.digester.run, name="hashing", daemon=True)

    def folders(self, limit: int | None = None) -> list[str]:
        """Those that were ever scanned, the last one first; `limit`: of them; None: all."""
        return folders(self._engine, limit)

    def scan(self, folder: Path, on_progress: OnProgress = lambda _: None, *, afresh: bool = False) -> Counts:
        """Now, in this thread; `afresh`: unchanged files are looked at again, too. Raises FileMissing."""
        if afresh:
            outdate(self._engine, os.path.realpath(folder))
        counts = self.scanner.scan(folder, on_progress)
        self._fits.catch_up()
        return counts

    def register(self, path: Path, words: Words = NOTHING_SAID) -> Model:
        """One file, or a folder that is one model, where it lies; it is hashed in the background. `words`: what the user says of it."""
        model = self.scanner.register(path, self._limits(path), words)
        self.digester.wake()
        return model

    def current(self, model: Model) -> Model:
        """The model as its file is now: other programs may have written to one of theirs since it was last looked at; then it is looked at
        again, and known by its new bytes. Raises FileMissing, UnusableFile."""
        if model.managed or self._catalog.is_as_seen(model):
            return model
        path = self._catalog.path(model)
        if (limits := self._limits(path)) is not None and not limits(path):
            raise UnusableFile(f"{model.name} has become a link to where nothing may be read.", model=model.id)
        self.scanner.look_again(model)
        self._fits.catch_up()
        self.digester.wake()
        return self._catalog.get(model.id)

    def submit(self, folder: str, *, afresh: bool = False) -> ScanRow:
        """Queue a scan for the background, `afresh` as above.

        Raises InvalidRequest; PathRefused for a folder that may not be asked for from outside.
        """
        path = Path(folder)
        if not path.is_absolute():
            raise InvalidRequest(f"{folder} is no absolute path.", field="folder")
        real = admit(path, self._admitted())
        if afresh:
            outdate(self._engine, str(real))
        scan = self.book.open(str(real))
        self._submit(scan.id)
        return scan

    def _submit(self, scan_id: str) -> None:
        self._thread.submit(going_on("a scan")(self._run), scan_id)

    def cancel(self, scan_id: str) -> ScanRow:
        """What was found until now stays. Raises WrongState, ScanNotFound."""
        return self.book.move(scan_id, ScanState.CANCELLED)

    def start(self) -> None:
        """Look at every folder again, finish what a killed service left, and hash what has no digests; all in the background."""
        for scan_id in self.book.left_behind():
            self._submit(scan_id)
        self._thread.submit(going_on("looking through the folders again")(self.refresh))
        self._hashing.start()

    def refresh(self) -> None:
        """What has changed since the last time, in every folder. One that is not there (a disk) is passed over."""
        self.scanner.check_others()
        for folder in map(Path, self.folders()):
            limits = self._limits(folder)
            if limits is not None and not limits(folder):
                logger.warning("%s leads out of what may be read, and is passed over", folder)
                continue
            try:
                self.scanner.scan(folder, check=self._check_stop, may_read=limits)
            except Cancelled:
                return
            except ModelshelfError as error:
                logger.warning("%s", error.message)
        self._fits.catch_up()
        self.digester.wake()

    def close(self) -> None:
        """A running scan ends within a file, and goes on with the next service."""
        self._stop.set()
        self.digester.wake()
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._hashing.is_alive():
            self._hashing.join()

    def _run(self, scan_id: str) -> None:
        try:
            folder = self.book.move(scan_id, ScanState.RUNNING).folder
        except WrongState:
            return  # cancelled before it began

        def tell(counts: Counts) -> None:
            if self.book.progress(scan_id, counts.as_dict(), counts.skips.values()) != ScanState.RUNNING:
                raise Cancelled("The scan was cancelled; what it found stays.")

        error: ModelshelfError | None = None
        try:
            real = admit(Path(folder), self._admitted())  # again: it may have become a link meanwhile
            tell(self.scanner.scan(real, tell, self._check_stop, self._may_read()))
            self._fits.catch_up()
        except Cancelled as cancelled:
            if self._stop.is_set():
                return  # still `running`: the next service takes it up
            error = cancelled
        except ModelshelfError as known:
            error = known
        except Exception as unforeseen:
            logger.exception("a scan met an unforeseen error")
            error = ModelshelfError(f"An error of modelshelf itself: {type(unforeseen).__name__}: {unforeseen}")
        told = None if error is None else {"code": error.code, "message": error.message, "detail": error.detail}
        with suppress(WrongState):  # cancelled meanwhile
            self.book.move(scan_id, ScanState.DONE if error is None else ScanState.FAILED, error=told)
        self.digester.wake()

    def _admitted(self) -> list[Path]:
        """The folders that a scan may be asked for over the network, and that links may lead to in one. One that was scanned before and
        has become a link, where others may make links, is none of them."""
        kept = [
            folder for folder in self.folders() if os.path.realpath(folder) == folder or not self._is_reachable(folder)
        ]
        return [*self._settings.reachable, *map(Path, kept)]

    def _is_reachable(self, path: str) -> bool:
        return any(map(Path(path).is_relative_to, map(os.path.realpath, self._settings.reachable)))

    def _may_read(self) -> MayRead:
        folders = [os.path.realpath(folder) for folder in self._admitted()]

        def may_read(path: Path) -> bool:
            real = Path(os.path.realpath(path))
            return any(map(real.is_relative_to, folders))

        return may_read

    def _limits(self, path: Path) -> MayRead | None:
        """Of what lies where it may have been asked for over the network, by its name or by where it leads; elsewhere it was the user of
        this machine, and links lead anywhere."""
        return (
            self._may_read() if any(map(self._is_reachable, (str(path.absolute()), os.path.realpath(path)))) else None
        )

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Cancelled("The service is stopping; the scan goes on with the next one.")
