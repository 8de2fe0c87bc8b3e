"""/v1/models/{id}/preview: the picture that stands for a model."""

from __future__ import annotations

import io

import pytest
from PIL import Image, PngImagePlugin

from registry.previews import MAX_BYTES
from tests.api.conftest import Starter

URL = "/v1/models/starter-heart/preview"


def picture(size: tuple[int, int] = (900, 300), kind: str = "PNG", colour: str = "red", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a secret prompt")
    Image.new(mode, size, colour).save(buffer, kind, **({"pnginfo": info} if kind == "PNG" else {}))
    return buffer.getvalue()


def put(starter: Starter, body: bytes) -> str:
    answer = starter.http.put(URL, content=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["overrides"]["preview"])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_preview_is_scaled_down_and_written_anew(starter: Starter, kind: str) -> None:
    put(starter, picture(kind=kind))
    answer = starter.http.get(URL)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert Image.open(io.BytesIO(answer.content)).size == (512, 171)
    assert b"secret" not in answer.content


def test_small_pictures_stay_as_large_as_they_are_and_transparency_stays(starter: Starter) -> None:
    put(starter, picture((64, 64), colour="#ff000080", mode="RGBA"))
    kept = Image.open(io.BytesIO(starter.http.get(URL).content))
    assert (kept.size, kept.mode) == ((64, 64), "RGBA")


def test_a_preview_is_named_by_its_digest_so_that_a_new_one_has_a_new_address(starter: Starter) -> None:
    red = put(starter, picture())
    assert put(starter, picture(colour="blue")) != red
    assert put(starter, picture()) == red


def test_a_preview_is_taken_away(starter: Starter) -> None:
    put(starter, picture())
    assert "preview" not in starter.http.delete(URL).json()["overrides"]
    answer = starter.http.get(URL)
    assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        picture()[:200],
        b"GIF89a" + b"\0" * 20,
        picture()[:16]
        + b"\x7f\xff\xff\xff\x7f\xff\xff\xff"
        + picture()[24:],  # says it is 2147483647 pixels wide and high
        b"\x89PNG\r\n\x1a\n" + b"\0" * MAX_BYTES,
    ],
    ids=["empty", "svg", "cut-off", "gif", "endless", "too-many-bytes"],
)
def test_what_is_no_picture_is_refused_and_the_old_one_stays(starter: Starter, body: bytes) -> None:
    put(starter, picture(colour="green"))
    before = starter.http.get(URL).content
    answer = starter.http.put(URL, content=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert starter.http.get(URL).content == before


def test_a_model_that_is_not_there(starter: Starter) -> None:
    for answer in (
        starter.http.put("/v1/models/nothing/preview", content=picture()),
        starter.http.get("/v1/models/nothing/preview"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")
