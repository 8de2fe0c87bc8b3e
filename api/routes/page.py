"""The page at `/`, and the interface's description at `/docs`: static files of the package, which talk to the service like any client."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).resolve().parents[1] / "page"

HEADERS = {"Cache-Control": "no-cache"}
"""The files have an ETag: asked for each time, sent again only after an upgrade."""

router = APIRouter(include_in_schema=False)


@router.get("/")
def index() -> FileResponse:
    return FileResponse(FOLDER / "index.html", headers=HEADERS)


@router.get("/docs")
def docs() -> FileResponse:
    return FileResponse(FOLDER / "docs.html", headers=HEADERS)


class PageFiles(StaticFiles):
    """Served under /page, with the headers of the page."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    def file_response(self, full_path: str | PathLike[str], *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(full_path, *args, **kwargs)
        response.headers.update(HEADERS)
        return response
