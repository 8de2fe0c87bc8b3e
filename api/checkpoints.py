"""The checkpoint that is meant where other programs' APIs name it in their ways, or do not name one."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Annotated

from fastapi import Depends, Request

from probes import Kind
from registry.catalog import Catalog
from registry.errors import ModelNotFound
from registry.models import Model
from registry.queries import Query

SUFFIXES = (".safetensors", ".gguf", ".ckpt")
_SUFFIX = "|".join(map(re.escape, SUFFIXES))
_TITLE = re.compile(rf"(?P<name>.*?)(?:{_SUFFIX})?(?:\s*\[(?P<digest>[0-9a-fA-F]{{6,64}})\])?")


class Checkpoints:
    """Remembers which one is in use: in memory, for the service's life."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._chosen: str | None = None

    def get(self, title: str | None = None, *, keep: bool = False) -> Model:
        """By title, name, file or hash; with `keep` it is in use from now on. None: the one in use, else the first by name.

        Raises ModelNotFound, InvalidRequest.
        """
        if title:
            model = checkpoint_called(self._catalog, title)
            if keep:
                self._chosen = model.id
            return model
        if self._chosen is not None:
            with suppress(ModelNotFound):  # it was taken off the shelf meanwhile
                return self._catalog.get(self._chosen)
        found = self._catalog.page(Query(kind=Kind.CHECKPOINT, missing=False, limit=1)).models
        if not found:
            raise ModelNotFound("There is no checkpoint on the shelf. `modelshelf install` brings one.")
        return found[0]


def checkpoint_called(catalog: Catalog, title: str) -> Model:
    """Raises ModelNotFound, InvalidRequest."""
    told = _TITLE.fullmatch(title.strip())
    names = [title.strip(), told["name"]] if told else [title.strip()]
    for name in dict.fromkeys(names):
        with suppress(ModelNotFound):
            return catalog.called(name)
    digest = (told and told["digest"]) or title.strip()
    if re.fullmatch(r"[0-9a-fA-F]{6,64}", digest):
        found = catalog.page(Query(kind=Kind.CHECKPOINT, digest=digest, limit=1)).models
        if found:
            return found[0]
    raise ModelNotFound(f"There is no checkpoint “{title}”; GET /v1/models?kind=checkpoint lists them.", model=title)


async def checkpoints(request: Request) -> Checkpoints:
    found: Checkpoints = request.app.state.checkpoints
    return found


CheckpointsDep = Annotated[Checkpoints, Depends(checkpoints)]
