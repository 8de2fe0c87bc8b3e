"""GET /v1/duplicates, and GET and DELETE /v1/waste: what is there twice, and what belongs to nothing."""

from __future__ import annotations

from fastapi import APIRouter

from api.access import MANAGE, READ
from api.deps import Cursor, Limit, ManagerDep
from api.schemas.upkeep import Duplicates, RemovedOut, WasteOut

router = APIRouter(prefix="/v1", tags=["upkeep"])


@router.get("/duplicates", dependencies=[READ])
def list_duplicates(manager: ManagerDep, limit: Limit = 100, cursor: Cursor = None) -> Duplicates:
    """Models that are there more than once, by their digests: the same file, or the same weights under another header."""
    return Duplicates.of(manager.upkeep.duplicates(), manager.upkeep.unhashed(), limit, cursor)


@router.get("/waste", dependencies=[MANAGE])
def list_waste(manager: ManagerDep, limit: Limit = 100, cursor: Cursor = None) -> WasteOut:
    """Files that modelshelf made and nothing refers to any more: of forgotten models, unfinished downloads, pictures. None are yours."""
    return WasteOut.of(manager.upkeep.waste(), manager.settings.root, limit, cursor)


@router.delete("/waste", dependencies=[MANAGE])
def remove_waste(manager: ManagerDep) -> RemovedOut:
    """Removes what `GET /v1/waste` lists at this moment, on all of its pages, and tells what was removed."""
    return RemovedOut.of(manager.upkeep.remove(manager.upkeep.waste()))
