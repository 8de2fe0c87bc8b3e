"""From an error class to an HTTP status, in one table, and to problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from registry import errors

# The nearest class in an error's MRO decides.
STATUS: dict[type[errors.ModelshelfError], int] = {
    errors.ModelshelfError: 500,
    errors.InvalidRequest: 422,
    errors.WrongState: 409,
    errors.TokenRequired: 401,
    errors.InsufficientScope: 403,
    errors.RequestRefused: 403,
    errors.RequestTooLarge: 413,
    errors.RateLimited: 429,
    errors.MethodNotAllowed: 405,
    errors.NotReady: 503,
    errors.NotFound: 404,
    errors.Refused: 422,
    errors.GatedRepository: 403,
    errors.TokenRefused: 403,
    errors.HostRefused: 403,
    errors.AddressRefused: 403,
    errors.PathRefused: 403,
    errors.AmbiguousChoice: 409,
    errors.UnusableFile: 415,
    errors.KindNotTaken: 415,
    errors.TransferFailed: 502,
    errors.DatabaseUnavailable: 503,
    errors.StorageFull: 507,
    errors.Cancelled: 409,
    errors.IncompatibleAdapter: 409,
    errors.QueueFull: 429,
    errors.BackendUnavailable: 503,
    errors.NotGenerable: 409,
    errors.OutOfMemory: 503,
}


REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered."""

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """An error as every endpoint answers it, with media type application/problem+json (RFC 9457)."""

    type: str = Field(examples=["urn:modelshelf:model_not_found"])
    title: str = Field(description="The status in words.", examples=["Not Found"])
    status: int = Field(examples=[404])
    code: str = Field(description="Stable; api/ERRORS.md lists them.", examples=["model_not_found"])
    detail: str = Field(description="What went wrong and what to do, for people.", examples=["There is no model “x”."])
    request_id: str | None = Field(default=None, description="As in the header X-Request-ID and in the log.")
    model_config = ConfigDict(extra="allow")  # RFC 9457, 3.2: extension members

    errors: list[dict[str, Any]] | None = Field(default=None, description="Of an invalid request: field, message.")
    facts: dict[str, Any] | None = Field(default=None, description="For programs; which, depends on the code.")


def status_of(error: errors.ModelshelfError | type[errors.ModelshelfError]) -> int:
    cls = error if isinstance(error, type) else type(error)
    return next(STATUS[above] for above in cls.__mro__ if above in STATUS)


def told(error: errors.ModelshelfError, /, **more: Any) -> Problem:
    """An error as it is answered."""
    status = status_of(error)
    return Problem(
        type=f"urn:modelshelf:{error.code}",
        title=HTTPStatus(status).phrase,
        status=status,
        code=error.code,
        detail=error.message,
        facts=error.detail or None,
        **more,
    )


def recorded(error: dict[str, Any]) -> Problem:
    """The error that an install recorded, as it would have been answered."""
    return told(errors.recreate(error["code"], error["message"], error["detail"]))


def answer(error: errors.ModelshelfError, /, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """`more`: further members of the problem."""
    problem = told(error, request_id=REQUEST_ID.get(), **more)
    later = {"Retry-After": str(error.detail["retry_after"])} if "retry_after" in error.detail else {}
    return JSONResponse(
        problem.model_dump(exclude_none=True), problem.status, {**(headers or {}), **later}, media_type=MEDIA_TYPE
    )


EVERYWHERE: tuple[type[errors.ModelshelfError], ...] = (
    errors.TokenRequired,
    errors.InsufficientScope,
    errors.RequestRefused,
    errors.InvalidRequest,
    errors.RateLimited,
    errors.ModelshelfError,
)
"""What every route may answer."""


def raises(*classes: type[errors.ModelshelfError]) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: the statuses of these errors, each with all codes that it may come with."""
    by_status: dict[int | str, list[str]] = {status_of(cls): [] for cls in classes}
    for cls in dict.fromkeys((*EVERYWHERE, *classes)):
        if (status := status_of(cls)) in by_status:
            by_status[status].append(cls.code)
    return {status: _described(codes) for status, codes in sorted(by_status.items(), key=str)}


def _described(codes: Sequence[str]) -> dict[str, Any]:
    meanings = errors.meanings()
    examples = {code: {"value": _example(errors.recreate(code, f"{meanings[code]}.", {}))} for code in codes}
    return {
        "description": "; ".join(f"`{code}`: {meanings[code]}" for code in codes),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
    }


def _example(error: errors.ModelshelfError) -> dict[str, Any]:
    return told(error, request_id="0f3a5c7e9b1d").model_dump(exclude_none=True)


SOURCE_ERRORS: tuple[type[errors.ModelshelfError], ...] = (
    errors.InvalidSource,
    *errors.every_error(errors.Refused),
    errors.RepositoryNotFound,
    errors.RevisionNotFound,
    errors.FileMissing,
    *errors.every_error(errors.HubUnreachable),
)
"""What a source that is named in a request may be answered with."""

SAYING_ERRORS: tuple[type[errors.ModelshelfError], ...] = (
    errors.NotAsSaid,
    errors.NotIdentified,
    errors.UnusableFile,
    errors.FileMissing,
)
"""What is answered to who says of a model what it is."""

REFUSALS: tuple[type[errors.ModelshelfError], ...] = (
    errors.ModelNotFound,
    errors.FileMissing,
    errors.IncompatibleAdapter,
    errors.NotGenerable,
    errors.UnusableFile,
)
"""What can be seen to be wrong with a generation before it begins."""

FAILURES: tuple[type[errors.ModelshelfError], ...] = (
    errors.QueueFull,
    errors.Cancelled,
    errors.OutOfMemory,
    errors.BackendUnavailable,
)
"""And what else may come of it."""

_FRAMEWORK: dict[int, type[errors.ModelshelfError]] = {
    400: errors.InvalidRequest,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.RequestTooLarge,
}
"""What FastAPI answers by itself, in our codes."""


def invalid(error: RequestValidationError) -> tuple[errors.InvalidRequest, list[dict[str, str]]]:
    """What does not fit the schema, in one sentence and field by field; `body` stands for the whole of one."""
    found = [_unfit(told) for told in error.errors()]
    return errors.InvalidRequest("; ".join(f"{e['field']}: {e['message']}" for e in found)), found


def _unfit(told: Mapping[str, Any]) -> dict[str, str]:
    """Of pydantic's `loc`, the first says where the field is; of what is no JSON, FastAPI's second is a place in the text."""
    where, *names = told["loc"]
    if told["type"] == "json_invalid":
        return {"field": where, "message": f"not JSON at character {names[0]}: {told['ctx']['error']}"}
    return {"field": ".".join(map(str, names)) or where, "message": told["msg"]}


def _methods(app: FastAPI, path: str) -> list[str]:
    """What may be asked of a path: Starlette tells the methods of the first route that has it, and each method here is a route."""
    found: set[str] = set()
    for template, operations in app.openapi()["paths"].items():
        if compile_path(template)[0].fullmatch(path):
            found |= {method.upper() for method in operations}
    return sorted(found)


def install_handlers(app: FastAPI) -> None:
    @app.exception_handler(errors.ModelshelfError)
    async def expected(_: Request, error: errors.ModelshelfError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def unfit(_: Request, error: RequestValidationError) -> JSONResponse:
        told, found = invalid(error)
        return answer(told, errors=found)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> JSONResponse:
        cls = _FRAMEWORK.get(error.status_code, errors.ModelshelfError)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(app, request.url.path)) or headers.get("Allow", "GET")
        return answer(cls(str(error.detail)), headers)
