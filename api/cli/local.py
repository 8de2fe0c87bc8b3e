"""This machine's own shelf: the registry in this process, answering with the records that a service would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from api import records
from api.cli.shelf import OnProgress
from api.reading import read
from api.records import Event, Filters, Fit, Generation, Install, Problem, Scan, Skip, Task
from registry.catalog import Catalog
from registry.installs.options import AS_USUAL, Options
from registry.models import Model
from registry.queries import MAX_LIMIT, Query
from registry.recipes import adapter_weight
from registry.scopes import Scope
from registry.settings import Settings
from registry.tables import now

if TYPE_CHECKING:
    from registry.compatibility import Fit as Verdict
    from registry.generation import Job
    from registry.manager import Manager
    from registry.plans import GenerationRequest, Plan
    from registry.tables import Install as InstallRow


class LocalShelf:
    """Looking at models takes the catalogue alone: the whole manager costs a third more to import."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @cached_property
    def _catalog(self) -> Catalog:
        from registry.db import make_engine, migrate

        engine = make_engine(self._settings.database)
        self._opened.callback(engine.dispose)
        migrate(engine)
        return Catalog(engine, self._settings.root)

    @cached_property
    def _manager(self) -> Manager:
        from registry.manager import build_manager

        manager = build_manager(self._settings)
        self._opened.callback(manager.close)
        return manager

    # -- models
    def models(self, **filters: Unpack[Filters]) -> Iterator[records.Model]:
        checkpoint, text = filters.pop("compatible_with", None), filters.pop("q", None)
        query = Query(text=text, limit=MAX_LIMIT, **filters)  # type: ignore[misc]  # the other names are the same
        if checkpoint:
            query = self._manager.matches.fitting(checkpoint, query)
        return map(_model, self._catalog.every(query))

    def model(self, model: str) -> records.ModelDetail:
        from registry.generation.planning import Planner

        catalog = self._catalog
        found = catalog.get(model)
        return read(
            records.ModelDetail,
            found,
            weight=_weight(found),
            digests=[read(records.Digest, each, contradicted=found.contradicts(each)) for each in found.digests],
            borrowed=[read(records.Borrowed, each) for each in Planner(catalog).borrowed(found)],
            report=catalog.report(found),
            files=[read(records.File, each) for each in catalog.files(found)],
        )

    def locate(self, path: str) -> str:
        return str(self._settings.root / path)

    def edit(self, model: str, **stated: Any) -> records.Model:
        name = stated.pop("name", None)
        return _model(self._manager.edit(model, stated, name=name))

    def delete(self, model: str, *, files: bool = False) -> None:
        self._manager.remove(model, files=files)

    def compatible_loras(self, checkpoint: str, *, every: bool = False) -> Iterator[Fit]:
        self._manager.fits.catch_up()
        return (_fit(*found) for found in self._manager.matches.every_lora(checkpoint, every=every))

    def compatible_checkpoints(self, lora: str, *, every: bool = False) -> Iterator[Fit]:
        self._manager.fits.catch_up()
        return (_fit(*found) for found in self._manager.matches.every_checkpoint(lora, every=every))

    # -- installs
    def install(self, source: str, on_progress: OnProgress, options: Options = AS_USUAL) -> records.Model:
        return _model(self._manager.install(source, on_progress, options))

    def install_starter(self, on_progress: OnProgress) -> Iterator[records.Model]:
        return map(_model, self._manager.install_starter(on_progress))

    def finish_install(self, install_id: str, on_progress: OnProgress) -> records.Model:
        return _model(self._manager.run_install(install_id, on_progress))

    def installs(self) -> Iterator[Install]:
        return map(_install, self._manager.installs.list(limit=None))

    def order_install(self, install_id: str, command: str) -> Install:
        return _install(self._manager.installs.command(install_id, command))

    def discard_install(self, install_id: str) -> None:
        self._manager.discard_install(install_id)

    def interrupt(self) -> None:
        self._manager.interrupt_installs()

    def interrupted(self) -> list[Install]:
        return [_install(row) for row in self._manager.interrupted_installs()]

    # -- scans
    def scan_folders(self) -> list[str]:
        return self._manager.scans.folders()

    def scan(self, folder: str, *, afresh: bool = False) -> Scan:
        began = now()
        counts = self._manager.scans.scan(Path(folder), afresh=afresh)
        skips = [Skip(skip.reason, skip.count, [*skip.examples]) for skip in counts.skips.values()]
        return Scan("", folder, "done", counts.as_dict(), skips, None, began, now())

    # -- upkeep
    def run_task(self, kind: str, models: Sequence[str], on_progress: Callable[[Task], None]) -> Task:
        from registry.tasks import Kind

        manager, counts, findings, began = self._manager, Counter[str](), list[records.Finding](), now()
        chosen = [manager.catalog.get(model) for model in models] or manager.catalog.list()

        def stand(state: str) -> Task:
            done = counts.total()
            return Task("", kind, state, done, len(chosen), dict(counts), list(findings), None, began, now())

        for found in manager.works[Kind(kind)](chosen, lambda: True):
            counts[found.outcome] += 1
            if found.notable:
                findings.append(read(records.Finding, found))
            on_progress(stand("running"))
        return stand("succeeded")

    def duplicates(self) -> records.Duplicates:
        upkeep = self._manager.upkeep
        groups = [read(records.Duplicate, g, models=[_model(m) for m in g.models]) for g in upkeep.duplicates()]
        return records.Duplicates(groups, upkeep.unhashed(), None)

    def waste(self) -> records.Waste:
        root, waste = self._settings.root, self._manager.upkeep.waste()
        files = [records.WasteFile(path.relative_to(root).as_posix(), size) for path, size in waste.files]
        return records.Waste(files, len(files), waste.size, waste.verdicts, None)

    def remove_waste(self) -> records.Removed:
        upkeep = self._manager.upkeep
        removed = upkeep.remove(upkeep.waste())
        return records.Removed(len(removed.files), removed.size, removed.verdicts)

    # -- this machine and its service
    def check_up(self) -> Iterator[records.Check]:
        """Each as it is done; changes nothing, and so makes no database."""
        from registry.checkup import check_up

        return (read(records.Check, check) for check in check_up(self._settings))

    def tokens(self) -> list[records.Token]:
        return [read(records.Token, token) for token in self._manager.tokens.list()]

    def create_token(self, name: str, scopes: Collection[str]) -> records.NewToken:
        secret = self._manager.tokens.create(name, [Scope(scope) for scope in scopes])
        return read(records.NewToken, self._manager.tokens.find(secret), token=secret)

    def revoke_token(self, token: str) -> None:
        self._manager.tokens.revoke(token)

    # -- generations
    def generate(self, request: GenerationRequest, on_event: Callable[[Event], None]) -> Generation:
        """When the wait is interrupted, closing the manager stops it within a step, or a tensor while it loads."""
        job, told = self._manager.generator.submit(request), 0

        def tell() -> None:
            nonlocal told
            for event in job.events(told):
                told = event.number
                on_event(read(Event, event))

        job.listen(tell)
        tell()
        return _generation(job)

    def made_again(self, made: Generation) -> str:
        """How to have pictures that could not be saved: they went with this process."""
        return f"Generation {made.id} is lost; --seed {made.plan.seed.value} makes the same pictures again."


def _generation(job: Job) -> Generation:
    made = job.wait()
    pictures = [read(records.Picture, picture) for picture in made.pictures]
    return Generation(job.id, pictures, _plan(made.plan), list(made.warnings), dict(made.timings))


def _plan(plan: Plan) -> records.Plan:
    borrowed = [read(records.Borrowed, each) for each in plan.borrowed]
    return read(
        records.Plan, plan, borrowed=borrowed, loras=[read(records.PlannedLora, adapter) for adapter in plan.adapters]
    )


def _weight(model: Model) -> records.Value | None:
    return None if model.kind == "checkpoint" else read(records.Value, adapter_weight(model))


def _model(model: Model) -> records.Model:
    return read(records.Model, model, weight=_weight(model))


def _fit(model: Model, fit: Verdict) -> Fit:
    from registry.fits import verdict_of

    return read(Fit, fit, model=_model(model), verdict=str(verdict_of(fit)))


def _install(row: InstallRow) -> Install:
    from registry.sources import without_signature

    error = row.error and Problem(row.error["code"], row.error["message"], row.error["detail"] or None)
    rate, missing = row.bytes_per_second, row.bytes_total - row.bytes_done
    left = round(missing / rate, 1) if rate and missing > 0 else None
    return read(Install, row, error=error, seconds_left=left, source=without_signature(row.source))
