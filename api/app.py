"""The HTTP application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib import metadata

from fastapi import FastAPI

from api.checkpoints import Checkpoints
from api.conditional import Bodies
from api.document import describe
from api.guard import Guard
from api.headers import BrowserHeaders
from api.limits import BodyLimit, RateLimit
from api.metrics import Metrics
from api.observing import Observing
from api.openai import routes as images
from api.preferences import Preferences
from api.problems import EVERYWHERE, install_handlers, raises
from api.routes import (
    doctor,
    families,
    generations,
    health,
    installs,
    models,
    page,
    plans,
    previews,
    probes,
    residency,
    scans,
    settings,
    starter,
    tasks,
    tokens,
    upkeep,
)
from api.sdapi import routes as sdapi
from api.sdapi.console import Console
from api.strictness import KNOWN_QUERY
from registry.manager import Manager

DESCRIPTION = """Probes weight files, keeps them on a shelf, and generates with them.

Every error is `application/problem+json` with a stable `code`; with `Prefer: problem-status=200` it comes with status 200, and its own
status in the body alone, so that no browser logs it. Lists are bounded; what takes long is a job, whose events are followed by
`text/event-stream` and go on after `Last-Event-ID`. A service that listens beyond its machine asks for a token, as `Authorization: Bearer`
or as the password of `Basic`; the scopes that open an operation (`read`, `generate`, `manage`) stand with it, and one of them is enough.
Generations are seen by whoever asked for them, and by `read`.
"""


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
        description=DESCRIPTION,
        version=metadata.version("modelshelf"),
        lifespan=lifespan,
        responses=raises(*EVERYWHERE),
        docs_url=None,  # FastAPI's pages run scripts of another host, on this service's origin
        redoc_url=None,
    )
    app.openapi = partial(describe, app)  # type: ignore[method-assign]  # FastAPI's documented way
    app.state.manager = manager
    app.state.bodies = Bodies()
    app.state.addresses = images.Addresses()
    app.state.metrics = Metrics(manager)
    app.state.console = Console(manager)
    app.state.checkpoints = Checkpoints(manager.catalog)
    # The last that is added is the first that a request meets.
    app.add_middleware(BodyLimit, nbytes=int(manager.settings.max_body_mib * 2**20))
    app.add_middleware(RateLimit, per_minute=manager.settings.requests_per_minute)
    app.add_middleware(Guard, find=manager.tokens.find, is_local=is_local)
    app.add_middleware(Observing, on_request=app.state.metrics.on_request)
    app.add_middleware(Preferences)
    app.add_middleware(BrowserHeaders)
    install_handlers(app)
    for routes in (
        models,
        families,
        previews,
        installs,
        starter,
        probes,
        scans,
        tasks,
        upkeep,
        plans,
        generations,
        residency,
        settings,
        doctor,
        tokens,
    ):
        app.include_router(routes.router, dependencies=[KNOWN_QUERY])
    for others in (health, images, sdapi, page):
        app.include_router(others.router)
    app.mount("/page", page.PageFiles())
    return app
