"""The HTTP application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from api.conditional import Bodies
from api.guard import Guard
from api.problems import Problem, install_handlers
from api.routes import families, generations, installs, models, page, plans, previews, probes, residency, scans
from registry.manager import Manager

PROBLEM = {"model": Problem, "content": {"application/problem+json": {}}}


def create_app(manager: Manager, *, is_local: bool = True) -> FastAPI:
    """`is_local`: it listens on loopback; otherwise every request must show a token."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        manager.watch_installs()
        yield
        manager.close()

    app = FastAPI(
        title="modelshelf",
        summary="Model manager and registry service for diffusion models",
        version="0.1.0",
        lifespan=lifespan,
        responses={"default": {"description": "An error, as problem+json.", **PROBLEM}},
    )
    app.add_middleware(Guard, admits=manager.tokens.admits, is_local=is_local)
    app.state.manager = manager
    app.state.bodies = Bodies()
    install_handlers(app)
    for routes in (models, families, previews, installs, probes, scans, plans, generations, residency, page):
        app.include_router(routes.router)
    app.mount("/page", page.PageFiles())
    return app
