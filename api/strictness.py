"""Query parameters that no operation has, or that are given twice, are refused: a filter passed over would give a wrong list."""

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
    for name in request.query_params:  # each once
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "this operation has none"
            raise InvalidRequest(f"There is no query parameter {name!r}; {there}.", field=name, known=known)
        if (
            given := len(request.query_params.getlist(name))
        ) > 1:  # no operation takes a list; FastAPI would take the last
            raise InvalidRequest(f"The query parameter {name!r} is given {given} times; give it once.", field=name)


KNOWN_QUERY: Any = Depends(_check)
"""For the routers of /v1. Other programs' APIs pass over what they do not know, as the originals do."""
