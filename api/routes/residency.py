"""/v1/residency: what is loaded, where, how big, and who works with it; load and evict by hand."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from api.access import MANAGE, READ
from api.deps import ManagerDep, ModelId
from api.following import still_there
from api.problems import FAILURES, REFUSALS, raises
from api.schemas.residency import ResidencyOut
from registry import errors

router = APIRouter(prefix="/v1/residency", tags=["residency"])


@router.get("", dependencies=[READ])
def show_residency(manager: ManagerDep) -> ResidencyOut:
    """Memory by tier, and what is in it, least recently used first."""
    return ResidencyOut.of(manager.residents())


@router.put("/{model_id}", dependencies=[MANAGE], responses=raises(*REFUSALS, *FAILURES))
async def load(manager: ManagerDep, model_id: ModelId, request: Request) -> ResidencyOut:
    """Loads a checkpoint, by id or name, before somebody waits for it. If the client goes away before, it is given up."""
    async with still_there(request) as wanted:
        await run_in_threadpool(manager.load, model_id, wanted)
    return ResidencyOut.of(manager.residents())


@router.delete(
    "/{model_id}", dependencies=[MANAGE], responses=raises(errors.ModelNotFound, errors.NotResident, errors.WrongState)
)
def evict(manager: ManagerDep, model_id: ModelId) -> ResidencyOut:
    """Frees a model's memory in every tier; 409 while somebody works with it."""
    manager.evict(model_id)
    return ResidencyOut.of(manager.residents())
