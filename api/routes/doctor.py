"""GET /v1/doctor: what stands between the service's users and a picture."""

from __future__ import annotations

from fastapi import APIRouter

from api.access import MANAGE
from api.deps import ManagerDep
from api.schemas.upkeep import CheckOut, DoctorOut
from registry.checkup import check_up

router = APIRouter(prefix="/v1/doctor", tags=["service"])


@router.get("", dependencies=[MANAGE])
def examine(manager: ManagerDep) -> DoctorOut:
    """Versions, folder, free space, database, models, Hub and device of the service's machine, each with what to do. Takes some seconds."""
    return DoctorOut(checks=[CheckOut.of(check) for check in check_up(manager.settings, serving=True)])
