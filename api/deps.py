"""What the routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from registry.manager import Manager


def manager(request: Request) -> Manager:
    found: Manager = request.app.state.manager
    return found


ManagerDep = Annotated[Manager, Depends(manager)]
