"""GET /healthz, /readyz and /metrics: what whoever runs the service asks."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel

from api.access import READ
from api.deps import ManagerDep
from api.examples import shown
from api.problems import raises
from registry.errors import NotReady

router = APIRouter(tags=["service"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get("/healthz")
async def health() -> Health:
    """The process answers. Needs no token."""
    return Health()


@router.get("/readyz", responses=raises(NotReady))
def ready(manager: ManagerDep) -> Health:
    """It can work: its database answers, and its folder can be written to. Needs no token."""
    manager.check_ready()
    return Health()


METRICS = shown(
    "# HELP modelshelf_pictures_total Pictures that were made.\n# TYPE modelshelf_pictures_total counter\nmodelshelf_pictures_total 4.0\n",
    "text/plain",
    schema={"type": "string", "description": "Prometheus' text format."},
)


@router.get("/metrics", dependencies=[READ], response_class=PlainTextResponse, responses=METRICS)
def metrics(request: Request) -> Response:
    """Installs by end, bytes, probe, queue and switch times, pictures, the queue, residency by tier, and requests by route."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
