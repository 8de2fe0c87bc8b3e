"""Who may speak to the service: this machine, and whoever shows a token."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import problem, status_of
from registry.errors import ModelshelfError, RequestRefused, TokenRequired


class Guard:
    """`admits` looks a token up. Without one, only a service that listens on loopback (`is_local`) answers, and only to requests that
    name it so: a web page whose host name was made to resolve to 127.0.0.1 names another host (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, admits: Callable[[str], bool], is_local: bool) -> None:
        self._app = app
        self._admits = admits
        self._is_local = is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := await self._refusal(Headers(scope=scope))) is not None:
            status = status_of(error)
            body = problem(error.code, error.message, status).model_dump(exclude_none=True)
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            await JSONResponse(body, status, headers, "application/problem+json")(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _refusal(self, headers: Headers) -> ModelshelfError | None:
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and await run_in_threadpool(self._admits, token.strip()):
            return None
        if not self._is_local:
            return TokenRequired("Show a token: Authorization: Bearer ... `modelshelf token create` makes one.")
        if not is_loopback(urlsplit(f"//{headers.get('host', '')}").hostname or ""):
            return RequestRefused("This service answers on localhost only. From elsewhere, show a token.")
        return None


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
