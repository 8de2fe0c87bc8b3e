"""What every request has: an id, a line in the log, a place in the metrics, and an answer even when something unforeseen happens."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from urllib.parse import quote

from anyio import BrokenResourceError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import REQUEST_ID, answer
from registry.errors import ModelshelfError
from registry.models import new_id

HEADER = "X-Request-ID"
_USABLE = re.compile(r"[\w.:@/+=-]{1,128}")  # anything else could forge a line of the log

_log = logging.getLogger("modelshelf.access")

OnRequest = Callable[[str, str, int, float], None]
"""Called with method, route (its template, not the address), status and seconds."""


class Observing:
    """The outermost. Tokens, query strings and bodies are never logged."""

    def __init__(self, app: ASGIApp, on_request: OnRequest) -> None:
        self._app = app
        self._on_request = on_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stated = Headers(scope=scope).get(HEADER, "")
        request_id = stated if _USABLE.fullmatch(stated) else new_id()
        REQUEST_ID.set(request_id)
        started, status = time.monotonic(), 0

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, marked)
        except Exception as error:
            if status and _client_left(error):
                return
            _log.error("an error that nobody foresaw", exc_info=error)
            if status:  # half an answer is out: the connection breaks, which tells the client
                raise
            told = ModelshelfError(f"An error of modelshelf itself: {type(error).__name__}: {error}")
            await answer(told)(scope, receive, marked)
        finally:
            seconds = time.monotonic() - started
            self._on_request(scope["method"], _template(scope), status, seconds)
            caller = scope.get("state", {}).get("caller")
            path = quote(scope["path"])  # decoded, it could hold a new line
            _log.info(
                "%s %s %s",
                scope["method"],
                path,
                status or "gone",
                extra={
                    "method": scope["method"],
                    "path": path,
                    "status": status,
                    "milliseconds": round(seconds * 1000, 1),
                    "caller": caller.name if caller else None,
                    "client": (scope.get("client") or ("",))[0],
                },
            )


def _client_left(error: Exception) -> bool:
    """FastAPI's keep-alive of event streams raises this, in a group, when its client leaves between two events."""
    others = error.split(BrokenResourceError)[1] if isinstance(error, ExceptionGroup) else error
    return others is None


def _template(scope: Scope) -> str:
    route = scope.get("route")
    return getattr(route, "path", "") or "other"
