"""What the routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request

from registry.manager import Manager
from registry.queries import MAX_LIMIT


async def manager(request: Request) -> Manager:
    """Async, though it waits for nothing: for a plain function FastAPI goes to another thread and back."""
    found: Manager = request.app.state.manager
    return found


ManagerDep = Annotated[Manager, Depends(manager)]

ModelId = Annotated[
    str, Path(description="Of a model: its id, its name, or the beginning of its id.", examples=["starter-base"])
]
InstallId = Annotated[str, Path(description="Of an install.", examples=["0123456789ab"])]
ScanId = Annotated[str, Path(description="Of a scan.", examples=["0123456789ab"])]
GenerationId = Annotated[str, Path(description="Of a generation.", examples=["0123456789ab"])]

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most.")]
Cursor = Annotated[str | None, Query(description="`next` of the page before.", max_length=4000)]
