"""GET /v1/models and what hangs below it. All of it has an ETag: a client that has the answer already is told so with 304."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from api.access import MANAGE, SHELF
from api.conditional import UNCHANGED, ConditionalDep
from api.deps import Cursor, Limit, ManagerDep, ModelId
from api.problems import SAYING_ERRORS, raises
from api.schemas.models import CompatibleCheckpoints, CompatibleLoras, ModelDetail, ModelList, ModelOut, OverridesIn
from probes import TAKEN, Kind
from registry import errors, queries
from registry.errors import InvalidRequest

router = APIRouter(prefix="/v1/models", tags=["models"])

ANSWERS = {**UNCHANGED, **raises(errors.ModelNotFound)}
Sort = Literal["name", "-name", "created", "-created", "size", "-size"]
All = Annotated[bool, Query(description="Also those that do not fit.")]


@router.get("", response_model=ModelList, responses=ANSWERS, dependencies=[SHELF])
def list_models(
    manager: ManagerDep,
    conditional: ConditionalDep,
    kind: Annotated[Kind | None, Query(description="checkpoint, lora or lcm_lora")] = None,
    family: Annotated[str | None, Query(description="Of base models.", examples=["sd-1"])] = None,
    tag: Annotated[str | None, Query(description="Of the probe's or your own.", examples=["lcm"])] = None,
    q: Annotated[
        str | None,
        Query(description="Words that all stand somewhere in name, repositories, triggers, tags, title or author."),
    ] = None,
    digest: Annotated[
        str | None,
        Query(description="Of any kind, or how it begins: 6 hex digits at least.", examples=["sha256:e3b0c442"]),
    ] = None,
    compatible_with: Annotated[str | None, Query(description="A checkpoint, by id or name: LoRAs that fit it.")] = None,
    missing: Annotated[
        bool | None, Query(description="Only those whose file is gone, or only those that are there.")
    ] = None,
    sort: Annotated[Sort, Query(description="With - from the greatest down.")] = "name",
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Models, a page at a time: pass `next` as `cursor` for the next one."""
    if kind is not None and kind not in TAKEN:
        raise InvalidRequest(f"kind is {kind}; the registry holds {', '.join(TAKEN)}.", field="kind")
    query = queries.Query(
        kind=kind, family=family, tag=tag, text=q, digest=digest, missing=missing, sort=sort, limit=limit, cursor=cursor
    )

    def build() -> dict[str, Any]:
        page = manager.catalog.page(manager.matches.fitting(compatible_with, query) if compatible_with else query)
        return ModelList.facts_of(page)

    return conditional.answer(build)


@router.get(
    "/{model_id}",
    response_model=ModelDetail,
    responses=ANSWERS,
    dependencies=[SHELF],
)
def show_model(manager: ManagerDep, conditional: ConditionalDep, model_id: ModelId) -> Response:
    """One model, by id or name, with its digests, sources, files and the probe's evidence."""

    def build() -> ModelDetail:
        model = manager.catalog.get(model_id)
        borrowed = manager.generator.borrowed(model)
        return ModelDetail.detailed(model, manager.catalog.files(model), borrowed, manager.catalog.report(model))

    return conditional.answer(build)


@router.patch("/{model_id}", dependencies=[MANAGE], responses=raises(errors.ModelNotFound, *SAYING_ERRORS))
def set_overrides(manager: ManagerDep, model_id: ModelId, body: OverridesIn) -> ModelOut:
    """Name, tags, notes, triggers, and your own weight and its range, steps, CFG or scheduler; and family and kind, where the header leaves
    them open.

    They beat the provider's; null takes one back.
    """
    stated = body.model_dump(exclude_unset=True)
    name = stated.pop("name", None)
    return ModelOut.of(manager.edit(model_id, stated, name=name))


class Files(StrEnum):
    KEEP = "keep"
    REMOVE = "remove"


@router.delete(
    "/{model_id}",
    status_code=204,
    dependencies=[MANAGE],
    responses=raises(errors.ModelNotFound, errors.WrongState),
)
def remove_model(
    manager: ManagerDep,
    model_id: Annotated[str, Path(description="Of a model: its id or its name.", examples=["old-lora"])],
    files: Annotated[
        Files,
        Query(
            description="remove: also from the disk, which is refused for a file that was scanned in place. keep: until waste is removed."
        ),
    ] = Files.KEEP,
) -> None:
    """Takes a model off the shelf; 409 while a generation works with it."""
    manager.remove(model_id, files=files is Files.REMOVE)


@router.get(
    "/{model_id}/compatible-loras",
    response_model=CompatibleLoras,
    responses=ANSWERS,
    dependencies=[SHELF],
)
def compatible_loras(
    manager: ManagerDep,
    conditional: ConditionalDep,
    model_id: ModelId,
    all: All = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The LoRAs that fit this checkpoint, each with the reason; with `all`, also those that do not fit, and why not."""
    return conditional.answer(
        lambda: CompatibleLoras.facts_of(manager.matches.loras(model_id, every=all, limit=limit, cursor=cursor))
    )


@router.get(
    "/{model_id}/compatible-checkpoints",
    response_model=CompatibleCheckpoints,
    responses=ANSWERS,
    dependencies=[SHELF],
)
def compatible_checkpoints(
    manager: ManagerDep,
    conditional: ConditionalDep,
    model_id: ModelId,
    all: All = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The checkpoints that this LoRA fits, each with the reason; with `all`, also those that it does not fit, and why not."""
    return conditional.answer(
        lambda: CompatibleCheckpoints.facts_of(
            manager.matches.checkpoints(model_id, every=all, limit=limit, cursor=cursor)
        )
    )
