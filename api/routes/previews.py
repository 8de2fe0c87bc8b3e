"""The picture that stands for a model: /v1/models/{id}/preview."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from api.access import MANAGE, SHELF
from api.deps import ManagerDep, ModelId
from api.problems import raises
from api.schemas.models import ModelOut
from registry import errors
from registry.errors import InvalidRequest
from registry.previews import MAX_BYTES

router = APIRouter(prefix="/v1/models/{model_id}/preview", tags=["models"])

PICTURE = {
    "content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}},
    "description": "WebP, at most 512 pixels a side.",
}
BODY = {
    "requestBody": {"required": True, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
}


@router.get(
    "",
    response_class=FileResponse,
    responses={200: PICTURE, **raises(errors.ModelNotFound, errors.FileMissing)},
    dependencies=[SHELF],
)
def show_preview(
    manager: ManagerDep,
    model_id: ModelId,
    v: Annotated[str, Query(description="`preview` of the model, so that a cache tells its pictures apart.")] = "",
) -> FileResponse:
    """The model's preview picture; 404 when it has none."""
    # The address holds the digest where the page asks (`v`), so what it names never changes; a file beside a model may.
    model = manager.catalog.get(model_id)
    age = 3600 if "/" in (model.preview or "") else 31536000
    path = manager.previews.path(model)
    return FileResponse(path, media_type="image/webp", headers={"Cache-Control": f"private, max-age={age}"})


@router.put("", openapi_extra=BODY, dependencies=[MANAGE], responses=raises(errors.ModelNotFound))
async def set_preview(manager: ManagerDep, model_id: ModelId, request: Request) -> ModelOut:
    """The body is a PNG, JPEG or WebP file of at most 16 MiB. It is scaled down and written anew, without its metadata."""
    picture = bytearray()
    async for chunk in request.stream():
        picture += chunk
        if len(picture) > MAX_BYTES:
            raise InvalidRequest(f"The picture has more than {MAX_BYTES >> 20} MiB.", field="body")
    return ModelOut.of(await run_in_threadpool(manager.set_preview, model_id, bytes(picture)))


@router.delete("", dependencies=[MANAGE], responses=raises(errors.ModelNotFound))
def remove_preview(manager: ManagerDep, model_id: ModelId) -> ModelOut:
    """The model has no preview any more."""
    return ModelOut.of(manager.set_preview(model_id, None))
