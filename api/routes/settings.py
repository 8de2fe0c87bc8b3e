"""GET /v1/settings: how the service is set up, without its secrets."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.access import MANAGE
from api.deps import ManagerDep

router = APIRouter(prefix="/v1/settings", tags=["service"])


class SettingOut(BaseModel):
    name: str = Field(examples=["queue"])
    variable: str = Field(description="In the environment of `serve`.", examples=["MODELSHELF_QUEUE"])
    value: Any = Field(description="In force; of a secret only whether there is one.", examples=[64])
    default: bool = Field(description="Whether it was left as it is.")
    description: str = Field(examples=["Generations that may wait."])


class SettingList(BaseModel):
    settings: list[SettingOut]


@router.get("", dependencies=[MANAGE])
def list_settings(manager: ManagerDep) -> SettingList:
    """Every setting, with the variable that changes it. They are read when the service starts."""
    return SettingList(settings=[SettingOut(**setting._asdict()) for setting in manager.settings.shown()])
