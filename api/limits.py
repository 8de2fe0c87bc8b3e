"""How much is taken from a caller: requests a minute, and bytes a request."""

from __future__ import annotations

import time
from math import ceil

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import LOCAL, NOBODY, Caller
from api.problems import answer
from registry.errors import RateLimited, RequestTooLarge


class RateLimit:
    """`per_minute` requests of every token, within any 60 seconds. Requests from this machine, which show none, are not counted."""

    def __init__(self, app: ASGIApp, per_minute: int) -> None:
        self._app = app
        self._item = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._refusal(scope["state"]["caller"])) is not None:
            await answer(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, caller: Caller) -> RateLimited | None:
        if caller in (LOCAL, NOBODY) or self._limiter.hit(self._item, caller.name):
            return None
        reset = self._limiter.get_window_stats(self._item, caller.name).reset_time
        seconds = max(1, ceil(reset - time.time()))
        words = f"More than {self._item.amount} requests a minute with this token; try again in {seconds} s."
        return RateLimited(words, retry_after=seconds)


class BodyLimit:
    """At most `nbytes` of body, whether its length is announced or not."""

    def __init__(self, app: ASGIApp, nbytes: int) -> None:
        self._app = app
        self._most = nbytes
        self._words = (
            f"The request has more than {nbytes} bytes, which is the most that is taken (MODELSHELF_MAX_BODY_MIB)."
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            stated = Headers(scope=scope).get("content-length", "")
            if stated.isdecimal() and int(stated) > self._most:
                await answer(RequestTooLarge(self._words))(scope, receive, send)
                return
        come = 0

        async def counted() -> Message:
            nonlocal come
            message = await receive()
            come += len(message.get("body", b""))
            if come > self._most:
                raise HTTPException(
                    413, self._words
                )  # the one exception that FastAPI lets through while it reads a body
            return message

        await self._app(scope, counted, send)
