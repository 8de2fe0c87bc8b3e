"""ETag and 304 from the catalogue's version, and the bodies that belong to it.

A page is made once for each version of the catalogue: until somebody changes something, the same request is answered with the same
bytes, and with none at all when the client has them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from importlib import metadata
from threading import Lock
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import Response
from msgspec.json import encode
from pydantic import BaseModel

from api.deps import ManagerDep
from registry.catalog import Catalog

UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "As the client has it: If-None-Match names its ETag."}
}
HELD_BYTES = 32 * 2**20  # of bodies: some hundred pages of a hundred models


class Bodies:
    """Of answers, by version and address; the least recently asked for go first."""

    def __init__(self, limit: int = HELD_BYTES) -> None:
        self._limit = limit
        self._held: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def get(self, key: tuple[str, str]) -> bytes | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def keep(self, key: tuple[str, str], body: bytes) -> None:
        with self._lock:
            self._size += len(body) - len(self._held.pop(key, b""))
            self._held[key] = body
            while self._size > self._limit:
                self._size -= len(self._held.popitem(last=False)[1])


class Conditional:
    """Answers one request for something that the catalogue's version covers."""

    def __init__(self, request: Request, catalog: Catalog, bodies: Bodies) -> None:
        self._request = request
        self._catalog = catalog
        self._bodies = bodies

    def answer(self, build: Callable[[], BaseModel | Mapping[str, Any]]) -> Response:
        """`build()`, a schema or its fields, is called when its bytes are not at hand; what it raises is not kept."""
        # The version before the rows: a change in between makes the tag too old, and the next request is answered in full.
        etag = f'"{self._catalog.version()}-{_release()}"'
        headers = {
            "ETag": etag,
            "Cache-Control": "no-cache",
        }  # no-cache: keep it, and ask each time whether it still holds
        if _names(self._request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        url = self._request.url
        key = (etag, f"{url.path}?{url.query}")
        body = self._bodies.get(key)
        if body is None:
            body = encode(build(), enc_hook=BaseModel.model_dump)
            self._bodies.keep(key, body)
        return Response(body, media_type="application/json", headers=headers)


def _names(header: str, etag: str) -> bool:
    """Whether If-None-Match names it; weak and strong tags compare equal there (RFC 9110, 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or "*" in tags


@cache
def _release() -> str:
    """Another release may answer the same rows in another form."""
    return metadata.version("modelshelf")


async def conditional(request: Request, manager: ManagerDep) -> Conditional:
    bodies: Bodies = request.app.state.bodies
    return Conditional(request, manager.catalog, bodies)


ConditionalDep = Annotated[Conditional, Depends(conditional)]
