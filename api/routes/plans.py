"""POST /v1/plans: what a generation would do, before it is asked for. GET /v1/schedulers: what may be asked for."""

from __future__ import annotations

from fastapi import APIRouter

from api.access import SHELF
from api.deps import ManagerDep
from api.problems import REFUSALS, raises
from api.schemas.generations import GenerationIn, PlanPreview, SchedulerList, SchedulerOut
from registry.backends.schedulers import SCHEDULERS

router = APIRouter(prefix="/v1", tags=["generations"])


@router.post("/plans", dependencies=[SHELF], responses=raises(*REFUSALS))
def preview_plan(manager: ManagerDep, body: GenerationIn) -> PlanPreview:
    """The Plan of a generation request, every value with where it came from, beside what would be recommended if nothing was asked for."""
    return PlanPreview.of(manager.generator.preview(body.request()))


@router.get("/schedulers", dependencies=[SHELF])
def list_schedulers() -> SchedulerList:
    """The schedulers by the names that requests take, each with its label."""
    return SchedulerList(schedulers=[SchedulerOut(name=s.name, label=s.label) for s in SCHEDULERS.values()])
