"""What the tasks of registry/tasks.py do with each model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from registry.errors import ModelshelfError
from registry.models import Model
from registry.scans.digesting import Digester
from registry.tasks import Finding, Kind, Wanted, Work
from registry.updates import Change, Update
from registry.upkeep import Condition, Upkeep


def works(
    upkeep: Upkeep,
    digester: Digester,
    updates: Callable[[Iterable[Model]], Iterator[Update]],
    fetch: Callable[[Update], Model],
    load: Callable[[str, Wanted], Model],
) -> Mapping[Kind, Work]:
    def verify(models: Iterable[Model], _: Wanted) -> Iterator[Finding]:
        for found in upkeep.verify(models):
            fine = found.state in (Condition.WHOLE, Condition.HASHED)
            reason = ", ".join(name for name in found.files if name)
            yield Finding(found.model.id, found.model.name, found.state, reason, notable=not fine)

    def digest(models: Iterable[Model], _: Wanted) -> Iterator[Finding]:
        for model in models:
            if model.hashed_at is not None:
                yield Finding(model.id, model.name, "known", notable=False)
            else:
                done = digester.hash(model.id)
                yield Finding(model.id, model.name, "hashed" if done else "unreadable")

    def check_updates(models: Iterable[Model], _: Wanted) -> Iterator[Finding]:
        for found in updates(models):
            current = found.change is Change.CURRENT
            yield Finding(found.model.id, found.model.name, found.change, found.reason, notable=not current)

    def update(models: Iterable[Model], _: Wanted) -> Iterator[Finding]:
        for found in updates(models):
            if found.change is not Change.NEWER:
                current = found.change is Change.CURRENT
                yield Finding(found.model.id, found.model.name, found.change, found.reason, notable=not current)
                continue
            try:
                new = fetch(found)
            except ModelshelfError as error:
                yield Finding(found.model.id, found.model.name, "failed", error.message)
            else:
                yield Finding(new.id, new.name, "updated", found.reason)

    def load_each(models: Iterable[Model], wanted: Wanted) -> Iterator[Finding]:
        for model in models:
            load(model.id, wanted)
            yield Finding(model.id, model.name, "loaded")

    return {
        Kind.VERIFY: verify,
        Kind.HASH: digest,
        Kind.CHECK_UPDATES: check_updates,
        Kind.UPDATE: update,
        Kind.LOAD: load_each,
    }
