"""GET /v1/models and what hangs below it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.deps import ManagerDep
from api.schemas import CompatibleCheckpoints, CompatibleLoras, ModelDetail, ModelList, ModelOut, OverridesIn, Verdict
from probes import TAKEN, Kind
from registry.errors import InvalidRequest
from registry.recipes import check_overrides

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_models(
    manager: ManagerDep,
    kind: Annotated[Kind | None, Query(description="checkpoint, lora or lcm_lora")] = None,
    family: Annotated[str | None, Query(examples=["sd-1"])] = None,
    q: Annotated[str | None, Query(description="Looked for in names, repository ids and triggers.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> ModelList:
    """Installed models by name."""
    if kind is not None and kind not in TAKEN:
        raise InvalidRequest(f"kind is {kind}; the registry holds {', '.join(sorted(TAKEN))}.", field="kind")
    models = manager.catalog.list(kind=kind, family=family, text=q, limit=limit, offset=offset)
    return ModelList(models=[ModelOut.of(m) for m in models])


@router.get("/{model_id}")
def show_model(manager: ManagerDep, model_id: str) -> ModelDetail:
    """One model, by id or name, with its files and the probe's evidence."""
    return ModelDetail.of(manager.catalog.get(model_id))


@router.patch("/{model_id}")
def set_overrides(manager: ManagerDep, model_id: str, body: OverridesIn) -> ModelOut:
    """Your own weight, steps, CFG or scheduler for a model: it beats the provider's recommendation; null takes it back."""
    return ModelOut.of(manager.catalog.override(model_id, check_overrides(body.model_dump(exclude_unset=True))))


@router.get("/{model_id}/compatible-loras")
def compatible_loras(manager: ManagerDep, model_id: str, all: bool = False) -> CompatibleLoras:
    """The LoRAs that fit this checkpoint, each with the reason; with `all`, also those that do not fit, and why not."""
    verdicts = [Verdict.of(m, fit) for m, fit in manager.compatible_loras(model_id) if fit.fits or all]
    return CompatibleLoras(checkpoint=manager.catalog.get(model_id).id, loras=verdicts)


@router.get("/{model_id}/compatible-checkpoints")
def compatible_checkpoints(manager: ManagerDep, model_id: str, all: bool = False) -> CompatibleCheckpoints:
    """The checkpoints that this LoRA fits, each with the reason; with `all`, also those that it does not fit, and why not."""
    verdicts = [Verdict.of(m, f) for m, f in manager.compatible_checkpoints(model_id) if f.fits or all]
    return CompatibleCheckpoints(lora=manager.catalog.get(model_id).id, checkpoints=verdicts)
