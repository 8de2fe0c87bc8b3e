"""POST /v1/images/generations, and the pictures' own addresses."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.concurrency import run_in_threadpool

from api.access import GENERATE, CallerDep
from api.checkpoints import CheckpointsDep
from api.deps import ManagerDep
from api.examples import events, example_of
from api.following import follow_generation, give_up, until_ended
from api.openai.errors import OpenAIRoute, error_of
from api.openai.schemas import ImageEvent, ImageOut, ImagesIn, ImagesOut, Usage
from api.problems import FAILURES, REFUSALS, raises
from registry import errors
from registry.errors import PictureNotFound
from registry.generation import Job
from registry.generation.previewing import evenly
from registry.manager import Manager
from registry.pictures import Format, transcode

router = APIRouter(prefix="/v1/images", tags=["OpenAI's API"], route_class=OpenAIRoute)

LIFETIME = 3600
"""Seconds that a picture's address works, as OpenAI's do; its generation may be forgotten earlier, see registry/generation/queue.py."""

MEDIA_TYPES: dict[Format, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_COMPLETED = "image_generation.completed"
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The pictures; with `stream`, ImageEvent as server-sent events.",
        **events((_COMPLETED, example_of(ImageEvent, type=_COMPLETED)))[200],
    },
    **raises(*REFUSALS, *FAILURES),
}


class Addresses:
    """Signs what names a picture. The key is the process's own, as the pictures are: neither outlives it."""

    def __init__(self) -> None:
        self._serializer = URLSafeTimedSerializer(secrets.token_bytes(32), salt="pictures")

    def sign(self, job: Job, number: int, file_format: Format, quality: int) -> str:
        return str(self._serializer.dumps([job.id, number, file_format, quality]))

    def read(self, address: str) -> tuple[str, int, Format, int]:
        """Raises PictureNotFound."""
        try:
            generation, number, file_format, quality = self._serializer.loads(address, max_age=LIFETIME)
        except BadData as error:
            raise PictureNotFound("This address names no picture, or has expired.") from error
        return generation, number, file_format, quality


async def addresses(request: Request) -> Addresses:
    found: Addresses = request.app.state.addresses
    return found


Address = Annotated[str, Path(description="The rest of the `url` in an answer.", examples=["WyIwMTIz"])]
AddressesDep = Annotated[Addresses, Depends(addresses)]


@router.post(
    "/generations",
    dependencies=[GENERATE],
    responses=ANSWERS,
    response_model=ImagesOut,
    response_model_exclude_none=True,
)
async def generate_images(
    manager: ManagerDep,
    caller: CallerDep,
    checkpoints: CheckpointsDep,
    addresses: AddressesDep,
    body: ImagesIn,
    request: Request,
) -> Any:
    """Pictures, as OpenAI's clients ask for them. LoRAs, each with its weight, stand in `loras` or in the prompt as `<lora:name:0.8>`.

    Errors are problems as everywhere, and have `error` {message, type, param, code} besides. A client that goes away cancels its request.
    """
    model = await run_in_threadpool(checkpoints.get, body.model)
    partials = evenly(body.partial_images or 0) if body.stream else evenly(0)
    job = await run_in_threadpool(
        manager.generator.submit, body.request(model.id), previews=partials, owner=caller.name
    )
    if body.stream:
        return StreamingResponse(_events(manager, job, body), media_type="text/event-stream")
    await until_ended(manager, job, request)
    if job.error:
        raise job.error
    return await run_in_threadpool(_answer, job, body, addresses, request)


@router.get(
    "/files/{address}",
    name="show_image",
    response_class=Response,
    responses={
        200: {
            "description": "The picture.",
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()},
        },
        **raises(errors.PictureNotFound),
    },
)
def show_image(manager: ManagerDep, addresses: AddressesDep, address: Address) -> Response:
    """A picture by the address that an answer gave. It needs no token, cannot be guessed, and works for an hour at most."""
    generation, number, file_format, quality = addresses.read(address)
    try:
        made = manager.generator.queue.get(generation).result
    except errors.GenerationNotFound as error:
        raise PictureNotFound("The picture was forgotten: others were made since.") from error
    if made is None:
        raise PictureNotFound("This address names no picture.")
    content = transcode(made.pictures[number].png, file_format, quality)
    return Response(content, media_type=MEDIA_TYPES[file_format], headers={"Cache-Control": "private, max-age=3600"})


def _answer(job: Job, body: ImagesIn, addresses: Addresses, request: Request) -> ImagesOut:
    made, file_format, quality = job.wait(), body.file_format, _quality(body)
    images = []
    for number, picture in enumerate(made.pictures):
        if body.response_format == "url":
            url = request.url_for("show_image", address=addresses.sign(job, number, file_format, quality))
            images.append(ImageOut(url=str(url), revised_prompt=job.plan.prompt))
        else:
            text = b64encode(transcode(picture.png, file_format, quality)).decode()
            images.append(ImageOut(b64_json=text, revised_prompt=job.plan.prompt))
    return ImagesOut(
        created=int(job.created_at.timestamp()),
        data=images,
        output_format=file_format,
        size=_size(job),
        warnings=list(made.warnings),
    )


async def _events(manager: Manager, job: Job, body: ImagesIn) -> AsyncIterator[bytes]:
    """Partial pictures as they come, then the whole ones; or an `error`."""
    number = 0
    try:
        async for event in follow_generation(job):
            for text in event.data.get("images", ()):
                if number < (body.partial_images or 0):
                    partial = await asyncio.to_thread(transcode, b64decode(text), body.file_format, _quality(body))
                    yield _event("partial_image", job, body, partial, partial_image_index=number)
                    number += 1
        if job.error or job.result is None:
            error = {"error": error_of(job.error or errors.ModelshelfError("There is no picture."))}
            yield format_sse_event(data_str=json.dumps(error), event="error")
            return
        for picture in job.result.pictures:
            whole = await asyncio.to_thread(transcode, picture.png, body.file_format, _quality(body))
            yield _event("completed", job, body, whole, usage=Usage())
    finally:
        give_up(manager, job)


def _event(name: str, job: Job, body: ImagesIn, picture: bytes, **more: Any) -> bytes:
    event = ImageEvent(
        type=f"image_generation.{name}",
        b64_json=b64encode(picture).decode(),
        created_at=int(time.time()),
        output_format=body.file_format,
        size=_size(job),
        **more,
    )
    return format_sse_event(data_str=event.model_dump_json(exclude_none=True), event=event.type)


def _size(job: Job) -> str:
    return f"{job.plan.width.value}x{job.plan.height.value}"


def _quality(body: ImagesIn) -> int:
    return 100 if body.output_compression is None else body.output_compression
