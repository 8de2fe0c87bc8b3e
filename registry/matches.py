"""Lists of what fits what: the LoRAs of a checkpoint and the checkpoints of a LoRA, each with the verdict on it, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from probes import Kind
from registry.catalog import Catalog
from registry.compatibility import Fit
from registry.errors import InvalidRequest
from registry.fits import Fits
from registry.models import Model
from registry.queries import MAX_LIMIT, Query


class Loras(NamedTuple):
    """`loras`: each with the verdict on it; `cursor` asks for the next page."""

    checkpoint: Model
    loras: list[tuple[Model, Fit]]
    cursor: str | None


class Checkpoints(NamedTuple):
    """`checkpoints`: each with the verdict of the LoRA on it; `cursor` asks for the next page."""

    lora: Model
    checkpoints: list[tuple[Model, Fit]]
    cursor: str | None


class Matches:
    """Every method raises ModelNotFound; InvalidRequest where a LoRA is named for a checkpoint, or the other way round."""

    def __init__(self, catalog: Catalog, fits: Fits) -> None:
        self._catalog = catalog
        self._fits = fits

    def checkpoints(
        self, lora: str, *, every: bool = False, limit: int = 100, cursor: str | None = None
    ) -> Checkpoints:
        """A page of the checkpoints that a LoRA fits, by name; with `every`, of all of them, of other families too."""
        adapter = self._catalog.get(lora)
        if adapter.kind == Kind.CHECKPOINT:
            raise InvalidRequest(f"{adapter.name} is a checkpoint; LoRAs fit checkpoints.", model=adapter.id)
        query = Query(kind=Kind.CHECKPOINT, limit=limit, cursor=cursor)
        fitting = replace(query, family=adapter.family, takes=adapter.structure or "", missing=False)
        page = self._catalog.page(query if every else fitting)
        verdicts = self._fits.verdicts(page.models, [adapter])
        return Checkpoints(adapter, list(zip(page.models, verdicts, strict=True)), page.cursor)

    def loras(self, checkpoint: str, *, every: bool = False, limit: int = 100, cursor: str | None = None) -> Loras:
        """A page of the adapters that fit a checkpoint, by name; with `every`, of all adapters, those that do not fit included."""
        base = self._checkpoint(checkpoint)
        query = Query(adapters=True, limit=limit, cursor=cursor)
        page = self._catalog.page(query if every else _fitting(base, query))
        verdicts = self._fits.verdicts([base], page.models)
        return Loras(base, list(zip(page.models, verdicts, strict=True)), page.cursor)

    def every_checkpoint(self, lora: str, *, every: bool = False) -> Iterator[tuple[Model, Fit]]:
        """All pages of `checkpoints`."""
        return _paged(partial(self.checkpoints, lora, every=every, limit=MAX_LIMIT))

    def every_lora(self, checkpoint: str, *, every: bool = False) -> Iterator[tuple[Model, Fit]]:
        """All pages of `loras`."""
        return _paged(partial(self.loras, checkpoint, every=every, limit=MAX_LIMIT))

    def fitting(self, checkpoint: str, query: Query) -> Query:
        """`query` for adapters that fit this checkpoint."""
        return _fitting(self._checkpoint(checkpoint, field="compatible_with"), query)

    def _checkpoint(self, reference: str, **facts: str) -> Model:
        """`facts`: for the error, if it is none."""
        base = self._catalog.get(reference)
        if base.kind != Kind.CHECKPOINT:
            raise InvalidRequest(f"{base.name} is a {base.kind}; LoRAs fit checkpoints.", model=base.id, **facts)
        return base


def _fitting(base: Model, query: Query) -> Query:
    if query.family not in (None, base.family):
        raise InvalidRequest(f"{base.name} is {base.family}: nothing of {query.family} fits it.", field="family")
    return replace(query, family=base.family, fits=base.structure or "", missing=False)


def _paged(page: Callable[..., Loras | Checkpoints]) -> Iterator[tuple[Model, Fit]]:
    cursor = None
    while True:
        _, matches, cursor = page(cursor=cursor)
        yield from matches
        if cursor is None:
            return
