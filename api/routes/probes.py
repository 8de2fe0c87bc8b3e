"""POST /v1/probe: what a source is, from its headers alone; nothing is downloaded or recorded."""

from __future__ import annotations

from fastapi import APIRouter

from api.access import READ
from api.deps import ManagerDep
from api.problems import SOURCE_ERRORS, raises
from api.schemas.installs import ProbeIn, ProbeOut
from registry.installs.options import Options

router = APIRouter(prefix="/v1/probe", tags=["installs"])


@router.post("", dependencies=[READ], responses=raises(*SOURCE_ERRORS))
def probe_source(manager: ManagerDep, body: ProbeIn) -> ProbeOut:
    """Kind, family and size of a source, and for a LoRA which installed checkpoints it fits. Takes what `POST /v1/installs` takes."""
    return ProbeOut.of(manager.inquire(body.source, Options(family=body.family, kind=body.kind)))
