"""The composition root: everything that the API and the command line can ask for, wired from one Settings."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from probes import Kind, Report
from registry.backends import Backend, BackendOptions, Keeper, Residents
from registry.backends.loading import load_backend
from registry.catalog import Catalog
from registry.compatibility import Fit
from registry.db import make_engine, migrate
from registry.errors import InvalidRequest, NotResident
from registry.generation import Generator
from registry.installs.examine import probe_source
from registry.installs.states import InstallBook
from registry.installs.worker import OnProgress, Worker
from registry.settings import Settings
from registry.starter import starter_repositories
from registry.tables import Install, Model

INSTALL_THREADS = 2  # one transfer fills a line; the second keeps a small LoRA from waiting behind a checkpoint


def _gib(value: float | None) -> int | None:
    return None if value is None else int(value * 2**30)


class Manager:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._engine = make_engine(settings.database)
        migrate(self._engine)
        self.catalog = Catalog(self._engine, settings.root)
        self.installs = InstallBook(self._engine)
        self._worker = Worker(settings, self.installs, self.catalog)
        self._threads = ThreadPoolExecutor(INSTALL_THREADS, thread_name_prefix="install")
        self.generator = Generator(self.catalog, lambda: self._backend, settings.queue)

    @cached_property
    def _backend(self) -> Backend:
        settings = self.settings
        options = BackendOptions(
            device=settings.device,
            dtype=settings.dtype,
            budget_bytes=_gib(settings.memory_gib),
            host_bytes=_gib(settings.host_memory_gib),
            keep_alive=None if settings.keep_alive_minutes is None else settings.keep_alive_minutes * 60,
            batch=settings.batch,
        )
        return load_backend(settings.backend, options)

    # -- what is loaded
    def residents(self) -> Residents:
        """Nothing, until something was loaded: asking imports no backend."""
        backend = self.__dict__.get("_backend")
        return backend.residents() if isinstance(backend, Keeper) else Residents()

    def load(self, checkpoint: str) -> Model:
        """Into memory, before anybody waits for it."""
        model = self.catalog.get(checkpoint)
        if model.kind != Kind.CHECKPOINT:
            raise InvalidRequest(
                f"{model.name} is a {model.kind}; it is loaded with the checkpoint that wears it.", model=model.id
            )
        self._keeper().load(self.generator.reference(model))
        return model

    def evict(self, reference: str) -> Model:
        """Out of memory. Raises NotResident, WrongState (it is in use)."""
        model = self.catalog.get(reference)
        if "_backend" not in self.__dict__:
            raise NotResident(f"{model.name} is not in memory.", model=model.id)
        self._keeper().evict(model.blake3)
        return model

    def _keeper(self) -> Keeper:
        if not isinstance(self._backend, Keeper):
            raise InvalidRequest("This backend keeps nothing loaded between generations.")
        return self._backend

    # -- installing
    def install(self, source: str, on_progress: OnProgress = lambda _: None) -> Model:
        """Install now, in this thread."""
        return self._worker.run(self._worker.open(source).id, on_progress)

    def install_starter(self, on_progress: OnProgress = lambda _: None) -> Iterator[Model]:
        """The starter models that ship with the package; needs no network."""
        for repository in starter_repositories():
            yield self.install(str(repository), on_progress)

    def submit_install(self, source: str) -> Install:
        """Queue an install for the background threads. What its headers already show to be wrong is raised here and now."""
        self._worker.check(source)
        install = self._worker.open(source)
        self._threads.submit(self._worker.run, install.id)  # its outcome, errors included, is told by the row
        return install

    def resume_installs(self) -> None:
        """Go on with what a killed or stopped service left unfinished."""
        for install_id in self._worker.abandoned():
            self._threads.submit(self._worker.run, install_id)

    def wait(self) -> None:
        """Until the background installs have ended; none can be submitted afterwards."""
        self._threads.shutdown(wait=True)

    # -- asking
    def probe(self, source: str) -> Report:
        return probe_source(source, self.settings)

    def compatible_loras(self, checkpoint: str) -> list[tuple[Model, Fit]]:
        """Every LoRA and LCM-LoRA with the verdict on it, those that fit first."""
        base = self.catalog.get(checkpoint)
        if base.kind != Kind.CHECKPOINT:
            raise InvalidRequest(f"{base.name} is a {base.kind}; LoRAs fit checkpoints.", model=base.id)
        loras = [m for kind in (Kind.LORA, Kind.LCM_LORA) for m in self.catalog.list(kind=kind, limit=100_000)]
        verdicts = [(lora, self.generator.fit(lora, base)) for lora in loras]
        return sorted(verdicts, key=lambda v: (not v[1].fits, v[0].name.lower()))

    def close(self) -> None:
        """A running generation stops within a step, running installs let go within a chunk and are queued for the next service."""
        self.generator.close()
        self._worker.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._engine.dispose()


def build_manager(settings: Settings | None = None) -> Manager:
    return Manager(settings or Settings())
