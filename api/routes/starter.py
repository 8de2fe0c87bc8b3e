"""POST /v1/starter: the small models that ship with modelshelf."""

from __future__ import annotations

from fastapi import APIRouter

from api.access import MANAGE
from api.deps import ManagerDep
from api.schemas.installs import InstallList
from registry.installs.states import InstallPage

router = APIRouter(prefix="/v1/starter", tags=["installs"])


@router.post("", status_code=202, dependencies=[MANAGE])
def install_starter(manager: ManagerDep) -> InstallList:
    """Install them, the base first; needs no network. Each is a job like any other install."""
    return InstallList.of(InstallPage(manager.submit_starter(), None))
