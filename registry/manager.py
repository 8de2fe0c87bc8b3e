"""The composition root: everything that the API and the command line can ask for, wired from one Settings."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Event, Lock, Thread
from typing import Any

from probes import Kind
from probes.containers.weight_names import variant_of
from registry.backends import Backend, BackendOptions, Keeper, Residents
from registry.backends.loading import load_backend
from registry.background import going_on
from registry.catalog import Catalog
from registry.chores import works
from registry.db import make_engine, migrate
from registry.errors import DatabaseUnavailable, InvalidRequest, NotReady, NotResident, WrongState
from registry.fits import Fits
from registry.generation import Generator
from registry.holders import Holder
from registry.installs.crew import Crew
from registry.installs.inquiry import Inquiry, inquire
from registry.installs.options import AS_USUAL, Options
from registry.installs.states import InstallBook
from registry.installs.worker import OnProgress, Worker
from registry.matches import Matches
from registry.measures import Measures, What
from registry.models import Model
from registry.once import Once
from registry.plans import Limits
from registry.previews import Previews
from registry.recipes import check_overrides
from registry.sayings import judge
from registry.scans.service import Scans
from registry.settings import Settings
from registry.sources import StarterSource
from registry.starter import starter_repositories
from registry.tables import Install, InstallState
from registry.tasks import Kind as TaskKind
from registry.tasks import Task, Tasks
from registry.tokens import Tokens
from registry.updates import Update, look_for_updates
from registry.upkeep import Upkeep
from registry.words import WORDS, Words, check_words, words_of

CLEAN_SECONDS = 6 * 3600.0  # between two looks for what is old enough to be forgotten
WATCH_SECONDS = 1.0  # between two looks for installs that nobody works on; each is one query


def _gib(value: float | None) -> int | None:
    return None if value is None else int(value * 2**30)


class Manager:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.root.mkdir(parents=True, exist_ok=True)
        self._engine = make_engine(settings.database)
        migrate(self._engine)
        self.catalog = Catalog(self._engine, settings.root)
        self.previews = Previews(settings.root / ".previews")
        self.fits = Fits(self._engine, self.catalog)
        self.matches = Matches(self.catalog, self.fits)
        self.scans = Scans(settings, self._engine, self.catalog, self.fits)
        self.upkeep = Upkeep(self._engine, self.catalog, self.scans.digester, self.previews, settings.downloads)
        self.measures = Measures()
        self.installs = InstallBook(self._engine, self.measures)
        self.tokens = Tokens(self._engine)
        self._worker = Worker(
            settings,
            self._engine,
            self.installs,
            self.catalog,
            self.previews,
            self.scans.register,
            self._say,
            registered=self.fits.catch_up,
            measures=self.measures,
        )
        self._crew = Crew[Model](settings.installs_at_once, "install")
        self._comparing = Thread(target=going_on("comparing models")(self.fits.catch_up), name="comparing", daemon=True)
        self._running: dict[str, Future[Model]] = {}
        self._submitting = Lock()
        self._closing = Event()
        self._watch = Thread(target=self._keep_watch, name="installs", daemon=True)
        self._backend = Once(self._load_backend)
        limits = Limits(settings.max_pictures, settings.max_side, settings.max_prompt)
        self.works = works(self.upkeep, self.scans.digester, self.updates, self.fetch_update, self.load)
        self.tasks = Tasks(self.works)
        self.generator = Generator(
            self.catalog,
            self._backend,
            settings.queue,
            limits=limits,
            current=self.scans.current,
            measures=self.measures,
        )

    def _load_backend(self) -> Backend:
        settings = self.settings
        options = BackendOptions(
            device=settings.device,
            dtype=settings.dtype,
            budget_bytes=_gib(settings.memory_gib),
            host_bytes=_gib(settings.host_memory_gib),
            keep_alive=None if settings.keep_alive_minutes is None else settings.keep_alive_minutes * 60,
            batch=settings.batch,
            compile=settings.compile,
        )
        return load_backend(settings.backend, options)

    def check_ready(self) -> None:
        """Raises NotReady, with what is the matter."""
        try:
            self.catalog.version()
        except DatabaseUnavailable as error:
            raise NotReady(error.message) from error
        if not os.access(self.settings.root, os.W_OK):
            raise NotReady(f"{self.settings.root} cannot be written to.")

    # -- what is loaded
    def residents(self) -> Residents:
        """Nothing, until something was loaded: asking imports no backend."""
        backend = self._backend.made
        return backend.residents() if isinstance(backend, Keeper) else Residents()

    def load(self, checkpoint: str, wanted: Callable[[], bool] = lambda: True) -> Model:
        """Into memory, before anybody waits for it. Raises Cancelled once it is not `wanted` any more."""
        model = self.catalog.get(checkpoint)
        if model.kind != Kind.CHECKPOINT:
            raise InvalidRequest(
                f"{model.name} is a {model.kind}; it is loaded with the checkpoint that wears it.", model=model.id
            )
        model = self.scans.current(model)
        self._keeper().load(self.generator.reference(model), Holder("loading", wanted))
        return model

    def evict(self, reference: str) -> Model:
        """Out of memory. Raises NotResident, WrongState (it is in use)."""
        model = self.catalog.get(reference)
        if self._backend.made is None:
            raise NotResident(f"{model.name} is not in memory.", model=model.id)
        self._keeper().evict(self.generator.identity(model))
        return model

    def _keeper(self) -> Keeper:
        backend = self._backend()
        if not isinstance(backend, Keeper):
            raise InvalidRequest("This backend keeps nothing loaded between generations.")
        return backend

    def _say(self, model: Model, words: Words) -> Model:
        return self.edit(model.id, words)

    # -- installing
    def install(self, source: str, on_progress: OnProgress = lambda _: None, options: Options = AS_USUAL) -> Model:
        """Install now, in this thread."""
        return self._worker.install(source, on_progress, options)

    def install_starter(self, on_progress: OnProgress = lambda _: None) -> Iterator[Model]:
        """The starter models that ship with the package; needs no network."""
        for folder in starter_repositories():
            yield self.install(str(StarterSource(folder.name)), on_progress)

    def run_install(self, install_id: str, on_progress: OnProgress = lambda _: None) -> Model:
        """Go on with a queued install, in this thread."""
        return self._worker.run(install_id, on_progress)

    def submit_install(self, source: str, options: Options = AS_USUAL) -> Install:
        """Queue an install that is asked for over the network. What its headers already show to be wrong is raised here and now."""
        options = replace(options, confined=True)
        self._worker.check(source, options)
        return self._queue_install(source, options)

    def submit_starter(self) -> list[Install]:
        """Queue the starter models; the base first."""
        return [self._queue_install(str(StarterSource(folder.name))) for folder in starter_repositories()]

    def _queue_install(self, source: str, options: Options = AS_USUAL) -> Install:
        install = self._worker.open(source, options)
        self._submit(install.id)
        return install

    def order_install(self, install_id: str, command: str) -> Install:
        """Pause, resume, cancel or retry an install (states.COMMANDS); one that goes on does so in the background."""
        install = self.installs.command(install_id, command)
        if install.state == InstallState.QUEUED:
            self._submit(install_id)
        return install

    def interrupt_installs(self) -> None:
        """Those that run in this process are paused, until somebody resumes them: a user of the command line has pressed Ctrl-C."""
        self._worker.stop(InstallState.PAUSED)

    def interrupted_installs(self) -> list[Install]:
        """Those that have let go since."""
        return self._worker.paused()

    def discard_install(self, install_id: str) -> None:
        """Cancel an install if it runs, and forget it and its partial files."""
        self._worker.discard(install_id)

    def resume_installs(self) -> None:
        """Go on with what a killed or stopped service left unfinished, and with what waited for room on the disk."""
        self._worker.sweep()
        self._worker.make_room()
        for install_id in self._worker.abandoned():
            self._submit(install_id)

    def watch_installs(self) -> None:
        """Keep doing so in the background, for the installs that other processes queue or leave; and clean up, now and then."""
        with going_on("cleaning up"):
            self._worker.clean()
        self.scans.start()
        self._comparing.start()  # what a killed service had not come to
        self.resume_installs()
        self._watch.start()

    def wait(self) -> None:
        """Until the background installs have ended; none can be submitted afterwards."""
        self._crew.close()

    def _submit(self, install_id: str) -> None:
        with self._submitting:
            self._running = {i: future for i, future in self._running.items() if not future.done()}
            # One that winds down after a pause still holds the install's lock: the new run waits for it.
            if install_id not in self._running or self._running[install_id].running():
                # the row tells its outcome
                self._running[install_id] = self._crew.submit(
                    partial(self._worker.run, install_id, aside=self._crew.aside)
                )

    def _keep_watch(self) -> None:
        cleaned = time.monotonic()
        while not self._closing.wait(WATCH_SECONDS):
            with going_on("looking after installs"):
                if time.monotonic() - cleaned >= CLEAN_SECONDS:
                    self._worker.clean()
                    cleaned = time.monotonic()
                self.resume_installs()

    # -- asking
    def inquire(self, source: str, options: Options = AS_USUAL) -> Inquiry:
        """What an install of it, asked for over the network, would bring, and which checkpoints it would fit."""
        with self.measures.timed(What.PROBED):
            return inquire(source, self.settings, self.catalog, self.fits, replace(options, confined=True))

    def edit(self, reference: str, settings: Mapping[str, Any], *, name: str | None = None) -> Model:
        """What the user says of a model (Catalog.override), what it is among it: then its verdicts follow. All of it or nothing.

        Raises what `override`, `check_overrides` and `judge` raise.
        """
        model = self.catalog.get(reference)
        settings = check_overrides(model, settings)
        said = {word: settings[word] for word in WORDS if word in settings}
        if not said:
            return self.catalog.override(model.id, settings, name=name)
        check_words(words_of(said))
        model = self.scans.current(model)
        judged = judge(self.catalog, model, said)
        changed = self.catalog.override(model.id, settings, name=name, also=judged.write if judged else lambda _: None)
        self.fits.catch_up()
        return changed

    def set_preview(self, model: str, picture: bytes | None) -> Model:
        """None: no preview any more. Raises ModelNotFound, InvalidRequest."""
        found = self.catalog.get(model)
        digest = None if picture is None else self.previews.store(picture)
        return self.catalog.override(found.id, {"preview": digest})

    def remove(self, reference: str, *, files: bool = False) -> None:
        """Off the shelf, and out of memory; `files`: also off the disk.

        Raises ModelNotFound; WrongState: somebody works with it, or its files are not modelshelf's own.
        """
        model = self.catalog.get(reference)
        path = self.catalog.path(model)
        if files and not model.managed:
            raise WrongState(
                f"{model.name} was registered where it lies, {path}; modelshelf never deletes there. Keep its file.",
                model=model.id,
            )
        backend = self._backend.made
        if isinstance(backend, Keeper) and path.exists():
            with suppress(NotResident):
                backend.evict(self.generator.identity(model))
        # The row first: a file that nobody knows is found by `gc`, a model without its file fails later.
        self.catalog.remove(model)
        if files:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            self.catalog.disown(model.path)

    # -- upkeep in the background
    def submit_task(self, kind: TaskKind, references: Sequence[str] = ()) -> Task:
        """Of these models, or of all. Raises ModelNotFound, InvalidRequest."""
        if references:
            models: Iterable[Model] = [self.catalog.get(reference) for reference in references]
            return self.tasks.submit(kind, models, len(references))
        if kind is TaskKind.LOAD:
            raise InvalidRequest("Name the checkpoints to load.", field="models")
        return self.tasks.submit(kind, self.catalog.every(), sum(self.catalog.counts().values()))

    # -- newer versions
    def updates(self, models: Iterable[Model]) -> Iterator[Update]:
        """Of those that came from the Hub; nothing is downloaded."""
        return look_for_updates(models, self.catalog, self.settings)

    def fetch_update(self, update: Update, on_progress: OnProgress = lambda _: None) -> Model:
        """Install the newer version. It takes over name and settings; the older one keeps its file, its commit in its name."""
        old = update.model
        variants = {variant_of(file.path) for file in self.catalog.files(old) if file.path.endswith(".safetensors")}
        variant = variants.pop() if len(variants) == 1 else None  # of several precisions again the same
        wanted = Options(variant=variant, family=old.overrides.get("family"), kind=old.overrides.get("kind"))
        new = self.install(update.source, on_progress, wanted)
        if new.id == old.id:
            return new
        revision = next((source.revision for source in old.sources if source.revision), old.id)
        self.catalog.succeed(old, new, revision[:7])
        return self.catalog.get(new.id)

    def close(self) -> None:
        """A running generation stops within a step, or a tensor while it loads; running installs let go at once, and are queued for the
        next service."""
        self.generator.close()
        self.tasks.close()
        self._closing.set()
        if self._watch.is_alive():
            self._watch.join()
        self._worker.stop()
        self.scans.close()
        self._crew.close(cancel=True)
        if self._comparing.is_alive():
            self._comparing.join()
        self._engine.dispose()


def build_manager(settings: Settings | None = None) -> Manager:
    return Manager(settings or Settings())
