"""Generations over REST, as pictures and as jobs, in a real service with a third party's backend, which needs no torch."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.conftest import STARTER
from tests.service import running_service

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CAPACITY = 4


class Service(httpx.Client):
    own: Path
    """A folder of the user's that may be scanned."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With the starter checkpoint and its LCM-LoRA."""
    settings = {
        "MODELSHELF_ALLOWED_FOLDERS": str(STARTER),
        "MODELSHELF_BACKEND": "tests.registry.backends.painter:Painter",
        "MODELSHELF_QUEUE": str(CAPACITY),
        "PYTHONPATH": str(ROOT),
    }
    own = tmp_path_factory.mktemp("own")
    settings["MODELSHELF_ALLOWED_FOLDERS"] += f",{own}"
    with running_service(tmp_path_factory.mktemp("root"), "http://127.0.0.1:1", Service, **settings) as client:
        client.own = own
        for name in ("starter-base", "starter-lcm-lora"):
            answer = client.post("/v1/installs", json={"source": str(STARTER / "modelshelf" / name)})
            assert answer.status_code == 202, answer.text
            client.get(f"{answer.headers['location']}/events")  # until it has ended
            assert client.get(answer.headers["location"]).json()["state"] == "installed"
        yield client


def ask(client: httpx.Client, prompt: str = "a cat", *, query: str = "", **body: Any) -> httpx.Response:
    body = {"checkpoint": "starter-base", "prompt": prompt, "steps": 3, "seed": 5, **body}
    return client.post(f"/v1/generations{query}", json=body, headers=body.pop("headers", {}))


def job(client: httpx.Client, prompt: str = "a cat", **body: Any) -> str:
    answer = ask(client, prompt, query="?wait=false", **body)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def events(client: httpx.Client, location: str, after: int | None = None) -> list[tuple[int, str, dict[str, Any]]]:
    """Number, name and data of every event until the stream ends."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    seen, fields = [], {}
    with client.stream("GET", f"{location}/events", headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            name, colon, value = line.partition(": ")
            if colon and name:
                fields[name] = value
            elif not line and fields.keys() >= {"id", "event", "data"}:
                seen.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
                fields = {}
    return seen


def until_it_waits(client: httpx.Client, prompt: str) -> None:
    for _ in range(1000):
        listed = client.get("/v1/generations").json()["generations"]
        if any(entry["plan"]["prompt"] == prompt and entry["state"] == "queued" for entry in listed):
            return
    raise AssertionError(f"{prompt!r} never came into the queue")


def colour(picture: dict[str, Any]) -> Any:
    return Image.open(io.BytesIO(base64.b64decode(picture["png"]))).getpixel((0, 0))


def test_pictures_at_once_from_a_third_party_s_backend(service: httpx.Client) -> None:
    answer = ask(service, n=2)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert [(picture["seed"], colour(picture)) for picture in made["images"]] == [(5, (5, 0, 128)), (6, (6, 0, 128))]
    assert made["warnings"] == ["painted without torch"]
    assert service.get(answer.headers["location"]).json()["images"] == made["images"]


def test_a_contradiction_is_warned_about(service: httpx.Client) -> None:
    made = ask(service, loras=[{"model": "starter-lcm-lora"}], cfg=7, steps=4).json()
    assert made["plan"]["cfg"]["value"] == 7
    assert "CFG 7 with starter-lcm-lora" in made["warnings"][0]
    assert made["plan"]["warnings"] == made["warnings"][:1]


@pytest.mark.parametrize(
    ("query", "headers"),
    [("?wait=false", {}), ("", {"Prefer": "respond-async"}), ("", {"Prefer": "wait=5, respond-async"})],
)
def test_a_job_that_is_watched(service: httpx.Client, query: str, headers: dict[str, str]) -> None:
    answer = ask(service, "slow", query=query, headers=headers)
    assert answer.status_code == 202
    location = answer.headers["location"]
    assert location == f"/v1/generations/{answer.json()['id']}"
    assert answer.json()["state"] in ("queued", "running")
    assert answer.json()["images"] is None
    assert answer.json()["plan"]["steps"]["value"] == 3
    seen = events(service, location)
    assert [name for _, name, _ in seen] == ["queued", "running", "step", "step", "step", "succeeded"]
    assert [number for number, _, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert [data["done"] for _, name, data in seen if name == "step"] == [1, 2, 3]
    made = service.get(location).json()
    assert (made["state"], made["step"], made["steps"], made["ahead"]) == ("succeeded", 3, 3, None)
    assert colour(made["images"][0]) == (5, 0, 128)
    listed = service.get("/v1/generations").json()["generations"]
    assert [(entry["state"], entry["images"]) for entry in listed if entry["id"] == made["id"]] == [("succeeded", None)]


def test_whoever_was_cut_off_goes_on_where_he_was(service: httpx.Client) -> None:
    location = job(service)
    whole = events(service, location)
    for after in (0, 3, len(whole)):
        assert events(service, location, after) == whole[after:]
    assert service.get(f"{location}/events", headers={"Last-Event-ID": "x"}).status_code == 422


def test_previews_are_shown_when_asked_for(service: httpx.Client) -> None:
    seen = events(service, job(service, "slow", steps=12, previews=True))
    shown = [data for _, name, data in seen if name == "preview"]
    assert shown
    assert Image.open(io.BytesIO(base64.b64decode(shown[0]["images"][0]))).size == (2, 2)


def test_a_job_is_cancelled_once(service: httpx.Client) -> None:
    location = job(service, "endless")
    answer = service.delete(location)
    assert answer.status_code == 200
    assert events(service, location)[-1][1] == "cancelled"
    view = service.get(location).json()
    assert (view["state"], view["error"]["code"], view["images"]) == ("cancelled", "cancelled", None)
    assert view["step"] < view["steps"] or view["steps"] == 0
    again = service.delete(location)
    assert (again.status_code, again.json()["code"]) == (409, "wrong_state")


def test_a_client_that_goes_away_cancels_its_generation(service: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        service.post(
            "/v1/generations",
            json={"checkpoint": "starter-base", "prompt": "endless, and left"},
            timeout=0.5,
        )
    left = next(
        entry
        for entry in service.get("/v1/generations").json()["generations"]
        if entry["plan"]["prompt"] == "endless, and left"
    )
    assert events(service, f"/v1/generations/{left['id']}")[-1][1] == "cancelled"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/images/generations", {"stream": True}), ("/v1/images/generations", {}), ("/sdapi/v1/txt2img", {})],
)
def test_over_the_other_apis_too(service: httpx.Client, path: str, body: dict[str, Any]) -> None:
    prompt = f"endless, and left by {path} {body}"
    with (
        pytest.raises(httpx.ReadTimeout),
        service.stream("POST", path, json={"prompt": prompt, **body}, timeout=0.5) as stream,
    ):
        stream.read()
    [left] = [
        entry for entry in service.get("/v1/generations").json()["generations"] if entry["plan"]["prompt"] == prompt
    ]
    assert events(service, f"/v1/generations/{left['id']}")[-1][1] == "cancelled"


def test_a_streamed_request_that_fails_says_why(service: httpx.Client) -> None:
    answer = service.post("/v1/images/generations", json={"prompt": "fail", "stream": True})
    assert answer.text.startswith("event: error")
    assert json.loads(answer.text.partition("data: ")[2])["error"]["code"] == "out_of_memory"


@pytest.mark.parametrize(("prompt", "status", "code"), [("fail", 503, "out_of_memory"), ("crash", 500, "error")])
def test_a_generation_that_fails_says_why_and_harms_no_other(
    service: httpx.Client, prompt: str, status: int, code: str
) -> None:
    answer = ask(service, prompt)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    location = job(service, prompt)
    assert [name for _, name, _ in events(service, location)][-2:] == ["step", "failed"]
    error = service.get(location).json()["error"]
    assert (error["status"], error["code"]) == (status, code)
    assert ask(service).status_code == 200


def test_a_full_queue_says_when_to_come_back_and_the_service_answers_meanwhile(service: httpx.Client) -> None:
    running = job(service, "endless")
    try:
        queued = [job(service, f"waits {i}") for i in range(CAPACITY - 1)]
        with ThreadPoolExecutor(1) as clients:
            waiting = clients.submit(ask, service, "waits with its connection")
            until_it_waits(service, "waits with its connection")
            refused = ask(service, "one too many", query="?wait=false")
            assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
            assert int(refused.headers["retry-after"]) >= 1
            assert service.get("/v1/models").status_code == 200
            service.delete(running)
            assert waiting.result(100).status_code == 200
        assert [events(service, location)[-1][1] for location in queued] == ["succeeded"] * len(queued)
    finally:
        service.delete(running)


def test_image_to_image(service: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 16), (255, 255, 255)).save(buffer, "PNG")
    text = base64.b64encode(buffer.getvalue()).decode()
    made = ask(service, image=text, strength=0.5).json()
    plan = made["plan"]
    assert (plan["width"]["value"], plan["height"]["value"], plan["strength"]["origin"]) == (32, 16, "requested")
    assert len(plan["image"]) == 64
    assert colour(made["images"][0]) == (130, 127, 191)


@pytest.mark.parametrize(
    "body",
    [
        {"image": "no base64!"},
        {"image": base64.b64encode(b"no picture").decode()},
        {"strength": 0.5},
        {"image": "", "strength": 2.0},
        {"prediction_type": "nonsense"},
    ],
)
def test_a_start_picture_that_cannot_be(service: httpx.Client, body: dict[str, Any]) -> None:
    answer = ask(service, **body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text


@pytest.mark.parametrize("path", ["", "/events"])
def test_a_generation_that_is_not_there(service: httpx.Client, path: str) -> None:
    answer = service.get(f"/v1/generations/nothing{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "generation_not_found")


def test_a_scanned_lora_that_has_changed_is_looked_at_again_and_one_that_is_none_any_more_refused(
    service: Service,
) -> None:
    path = service.own / "mine.safetensors"
    path.write_bytes((STARTER / "modelshelf/starter-outline-lora/pytorch_lora_weights.safetensors").read_bytes())
    scan = service.post("/v1/scans", json={"folder": str(service.own)}).headers["location"]
    service.get(f"{scan}/events")  # until it has ended
    loras = [{"model": "mine"}]
    assert ask(service, loras=loras).status_code == 200
    before = service.get("/v1/models/mine").json()
    path.write_bytes((STARTER / "modelshelf/starter-heart-lora/starter-heart.safetensors").read_bytes())
    assert ask(service, loras=loras).status_code == 200
    after = service.get("/v1/models/mine").json()
    assert (after["id"], after["size"]) == (before["id"], path.stat().st_size)
    assert after["size"] != before["size"]
    path.write_bytes(b"<!DOCTYPE html>")
    refused = ask(service, loras=loras)
    assert (refused.status_code, refused.json()["code"]) == (415, "unusable_file")
    assert "changed since it was scanned" in refused.json()["detail"]
