"""From an error class to an HTTP status, in one table, and to problem+json (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from registry import errors

# The nearest class in an error's MRO decides.
STATUS: dict[type[errors.ModelshelfError], int] = {
    errors.ModelshelfError: 500,
    errors.InvalidRequest: 422,
    errors.WrongState: 409,
    errors.TokenRequired: 401,
    errors.RequestRefused: 403,
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


class Problem(BaseModel):
    """An error as every endpoint answers it, with media type application/problem+json."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[dict[str, Any]] | None = None
    facts: dict[str, Any] | None = None


def status_of(error: errors.ModelshelfError) -> int:
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def problem(code: str, detail: str, status: int, **more: Any) -> Problem:
    title = HTTPStatus(status).phrase
    return Problem(type=f"urn:modelshelf:{code}", title=title, status=status, code=code, detail=detail, **more)


def recorded(error: dict[str, Any]) -> Problem:
    """The error that an install recorded, as it would have been answered."""
    return told(errors.recreate(error["code"], error["message"], error["detail"]))


def told(error: errors.ModelshelfError) -> Problem:
    """An error as it is answered, for where it is part of an answer."""
    return problem(error.code, error.message, status_of(error), facts=error.detail or None)


def install_handlers(app: FastAPI) -> None:
    @app.exception_handler(errors.ModelshelfError)
    def expected(_: Request, error: errors.ModelshelfError) -> JSONResponse:
        answer = _answer(status_of(error), error.code, error.message, facts=error.detail or None)
        if "retry_after" in error.detail:
            answer.headers["Retry-After"] = str(error.detail["retry_after"])
        return answer

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        found = [{"field": ".".join(map(str, e["loc"][1:])), "message": e["msg"]} for e in error.errors()]
        detail = "; ".join(f"{e['field'] or 'body'}: {e['message']}" for e in found)
        return _answer(422, "invalid_request", detail, errors=found)

    @app.exception_handler(Exception)
    def unforeseen(_: Request, error: Exception) -> JSONResponse:
        """uvicorn logs the traceback."""
        return _answer(500, "error", f"An error of modelshelf itself: {type(error).__name__}: {error}")

    @app.exception_handler(HTTPException)
    def framework(_: Request, error: HTTPException) -> JSONResponse:
        return _answer(error.status_code, HTTPStatus(error.status_code).name.lower(), str(error.detail))


def _answer(status: int, code: str, detail: str, **more: Any) -> JSONResponse:
    body = problem(code, detail, status, **more).model_dump(exclude_none=True)
    return JSONResponse(body, status, media_type="application/problem+json")
