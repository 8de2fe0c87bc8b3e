"""GET /v1/families: how much of what is on the shelf."""

from __future__ import annotations

from fastapi import APIRouter

from api.access import SHELF
from api.deps import ManagerDep
from api.schemas.models import FamilyList, FamilyOut

router = APIRouter(prefix="/v1/families", tags=["models"])


@router.get("", dependencies=[SHELF])
def list_families(manager: ManagerDep) -> FamilyList:
    """The families of the installed models by name, each with its number of models by kind."""
    counts: dict[str, dict[str, int]] = {}
    for (family, kind), number in manager.catalog.counts().items():
        counts.setdefault(family, {})[kind] = number
    return FamilyList(
        families=[FamilyOut(family=f, models=sum(kinds.values()), kinds=kinds) for f, kinds in sorted(counts.items())]
    )
