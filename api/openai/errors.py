"""Errors as OpenAI's clients read them: the problem that every route answers has `error` besides."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from api.problems import answer, invalid, status_of
from registry.errors import ModelshelfError


def error_of(error: ModelshelfError) -> dict[str, Any]:
    """{message, type, param, code}"""
    kind = "server_error" if status_of(error) >= 500 else "invalid_request_error"
    return {"message": error.message, "type": kind, "param": error.detail.get("field"), "code": error.code}


class OpenAIRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handle(request)
            except ModelshelfError as error:
                return answer(error, error=error_of(error))
            except RequestValidationError as error:
                refused, found = invalid(error)
                refused.detail["field"] = found[0]["field"]
                return answer(refused, errors=found, error=error_of(refused))

        return told
