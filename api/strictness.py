"""Query parameters that no operation has are refused: a filter that is mistyped and passed over would give a wrong list."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from registry.errors import InvalidRequest


async def _check(request: Request) -> None:
    if not request.query_params:
        return
    # It takes a third of a second to make, once.
    document = request.app.openapi_schema or await run_in_threadpool(request.app.openapi)
    operation = document["paths"][request.scope["route"].path][request.method.lower()]
    known = [told["name"] for told in operation.get("parameters", ()) if told["in"] == "query"]
    for name in request.query_params:
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "this operation has none"
            raise InvalidRequest(f"There is no query parameter {name!r}; {there}.", field=name, known=known)


KNOWN_QUERY: Any = Depends(_check)
"""For the routers of /v1. Other programs' APIs pass over what they do not know, as the originals do."""
