"""What the routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from registry.manager import Manager


async def manager(request: Request) -> Manager:
    """Async, though it waits for nothing: for a plain function FastAPI goes to another thread and back."""
    found: Manager = request.app.state.manager
    return found


ManagerDep = Annotated[Manager, Depends(manager)]
