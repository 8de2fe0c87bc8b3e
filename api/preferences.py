"""`Prefer: problem-status=200` (RFC 7240): a problem as an answer that browsers take for a success.

A browser writes every refused request into its console as an error, also where a page asks in order to hear what is wrong, while
somebody types. Whoever prefers it reads the status in the body (RFC 9457); logs and metrics have the true one.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import MEDIA_TYPE

PREFERENCE = "problem-status=200"
_KEPT = (401,)
"""Browsers ask their user for a password at this status alone."""


class Preferences:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def quiet(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] not in _KEPT:
                headers = MutableHeaders(scope=message)
                if headers.get("content-type") == MEDIA_TYPE:
                    message["status"] = 200
                    headers["Preference-Applied"] = PREFERENCE
            await send(message)

        await self._app(scope, receive, quiet if _is_preferred(scope) else send)


def _is_preferred(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    stated = ",".join(Headers(scope=scope).getlist("prefer"))
    return PREFERENCE in (one.partition(";")[0].strip().lower() for one in stated.split(","))
