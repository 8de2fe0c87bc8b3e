"""The REST service as a real process, spoken to over HTTP."""

from __future__ import annotations

import base64
import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.bad_sources import BAD_SOURCES, GATED, add_bad_sources, files_below
from tests.conftest import STARTER
from tests.demo.strangers import sd15_lora, write
from tests.hub import Fault, LoopbackHub
from tests.service import running_service

pytestmark = pytest.mark.slow


class Service(httpx.Client):
    """A client of the running service, with its hub and its root."""

    hub: LoopbackHub
    root: Path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the module, with the starter installed from the hub."""
    folder = tmp_path_factory.mktemp("service")
    shutil.copytree(STARTER, folder / "hub")
    write(folder / "hub/somebody/sd15/sd15.safetensors", sd15_lora())
    add_bad_sources(folder / "hub", STARTER)
    with (
        LoopbackHub(folder / "hub", gated=[GATED]) as hub,
        running_service(folder / "root", hub.endpoint, Service, MODELSHELF_ALLOWED_FOLDERS="/no") as client,
    ):
        client.hub, client.root = hub, folder / "root"
        for name in ("starter-base", "starter-outline-lora", "starter-heart-lora", "starter-lcm-lora"):
            assert install(client, f"https://huggingface.co/modelshelf/{name}")[-1]["state"] == "installed"
        assert install(client, "somebody/sd15")[-1]["state"] == "installed"
        yield client


def install(client: Service, source: str) -> list[dict[str, Any]]:
    answer = client.post("/v1/installs", json={"source": source})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/installs/{answer.json()['id']}"
    with client.stream("GET", f"{answer.headers['location']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]


def generate(client: Service, **body: Any) -> dict[str, Any]:
    answer = client.post(
        "/v1/generations", json={"checkpoint": "starter-base", "prompt": "a red circle on a white background", **body}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def png(made: dict[str, Any], number: int = 0) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(made["images"][number]["png"])))


def test_openapi_describes_every_route(service: Service) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    assert set(paths) >= {
        "/v1/models",
        "/v1/models/{model_id}",
        "/v1/models/{model_id}/compatible-loras",
        "/v1/installs",
        "/v1/installs/{install_id}",
        "/v1/installs/{install_id}/events",
        "/v1/generations",
    }
    assert service.get("/docs").status_code == 200


def test_an_installs_events_end_with_its_end(service: Service) -> None:
    last = install(service, "modelshelf/starter-outline-lora")[-1]
    assert last["state"] == "installed"
    assert service.get(f"/v1/installs/{last['id']}").json() == last
    assert last["id"] in [i["id"] for i in service.get("/v1/installs").json()["installs"]]


@pytest.mark.parametrize(("source", "code", "status"), BAD_SOURCES)
def test_a_source_that_cannot_be_installed(service: Service, source: str, code: str, status: int) -> None:
    def everything() -> tuple[Any, Any, set[str]]:
        return service.get("/v1/models").json(), service.get("/v1/installs").json(), files_below(service.root)

    before = everything()
    answer = service.post("/v1/installs", json={"source": source})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.json()["detail"]) > 20
    assert everything() == before


def test_an_install_that_fails_on_its_way_says_why_in_its_last_event(service: Service) -> None:
    """The header is as announced, so the job begins; the tensors behind it are not."""
    write(service.hub.root / "somebody/wrong/wrong.safetensors", sd15_lora(rank=192))
    service.hub.faults["somebody/wrong/wrong.safetensors"] = Fault(corrupt=True)
    last = install(service, "somebody/wrong")[-1]
    assert (last["state"], last["error"]["code"], last["error"]["status"]) == ("failed", "digest_mismatch", 502)
    assert service.get(f"/v1/installs/{last['id']}").json()["error"] == last["error"]


def test_events_tell_states_and_growing_bytes(service: Service) -> None:
    whole = sd15_lora(rank=160)
    write(service.hub.root / "somebody/slow/slow.safetensors", whole)
    service.hub.faults["somebody/slow/slow.safetensors"] = Fault(bytes_per_second=len(whole) // 2)
    seen = install(service, "somebody/slow")
    states = list(dict.fromkeys(e["state"] for e in seen))
    assert (states[-1], "downloading" in states) == ("installed", True)
    done = [e["bytes_done"] for e in seen if e["state"] == "downloading"]
    assert len(set(done)) >= 3
    assert done == sorted(done)
    assert seen[-1]["bytes_total"] == len(whole)


def order(service: Service, job: str, command: str, status: int = 200) -> dict[str, Any]:
    answer = service.post(f"/v1/installs/{job}/{command}")
    assert answer.status_code == status, answer.text
    return answer.json()  # type: ignore[no-any-return]


@pytest.fixture
def slow(service: Service) -> str:
    """Id of an install that takes long."""
    whole = sd15_lora(rank=97)
    write(service.hub.root / "somebody/endless/endless.safetensors", whole)
    service.hub.faults["somebody/endless/endless.safetensors"] = Fault(bytes_per_second=len(whole) // 5)
    return service.post("/v1/installs", json={"source": "somebody/endless"}).json()["id"]  # type: ignore[no-any-return]


def test_an_install_is_paused_resumed_cancelled_and_tried_again(service: Service, slow: str) -> None:
    states = []
    with service.stream("GET", f"/v1/installs/{slow}/events") as stream:
        for line in stream.iter_lines():
            if not line.startswith("data: "):
                continue
            event = json.loads(line[6:])
            states.append(event["state"])
            match states[-1]:
                case "downloading" if event["bytes_done"] and "paused" not in states:
                    assert order(service, slow, "pause")["state"] == "paused"
                    assert order(service, slow, "pause", 409)["code"] == "wrong_state"
                case "paused":
                    assert order(service, slow, "resume")["state"] == "queued"
                case "downloading" if "paused" in states and event["seconds_left"]:
                    assert event["filename"] == "endless.safetensors"
                    assert event["bytes_per_second"] > 0
                    assert order(service, slow, "cancel")["state"] == "cancelled"
    assert (states[-1], "paused" in states) == ("cancelled", True)
    assert order(service, slow, "resume", 409)["code"] == "wrong_state"
    service.hub.faults.clear()
    assert order(service, slow, "retry")["state"] == "queued"
    with service.stream("GET", f"/v1/installs/{slow}/events") as stream:
        last = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")][-1]
    assert (last["state"], last["error"]) == ("installed", None)
    assert order(service, slow, "cancel", 409)["code"] == "wrong_state"
    assert order(service, slow, "explode", 404)["code"] == "not_found"


def test_an_install_that_is_discarded_leaves_nothing(service: Service) -> None:
    whole = sd15_lora(rank=98)
    write(service.hub.root / "somebody/unwanted/unwanted.safetensors", whole)
    service.hub.faults["somebody/unwanted/unwanted.safetensors"] = Fault(bytes_per_second=len(whole) // 5)
    before = files_below(service.root)
    job = service.post("/v1/installs", json={"source": "somebody/unwanted"}).json()["id"]
    while not service.get(f"/v1/installs/{job}").json()["bytes_done"]:
        time.sleep(0.02)
    assert service.delete(f"/v1/installs/{job}").status_code == 204
    assert service.get(f"/v1/installs/{job}").status_code == 404
    assert service.delete(f"/v1/installs/{job}").status_code == 404
    assert files_below(service.root) == before


def test_your_own_weight_beats_the_providers_until_it_is_taken_back(service: Service) -> None:
    def weight() -> dict[str, Any]:
        return generate(service, loras=[{"model": "starter-outline-lora"}], steps=1)["plan"]["loras"][0]["weight"]

    recommended = weight()
    assert service.patch("/v1/models/starter-outline-lora", json={"weight": 0.6}).json()["weight"]["origin"] == "user"
    assert (weight()["value"], weight()["origin"]) == (0.6, "user")
    for wrong in ({"weight": 99}, {"scheduler": "no-such"}, {"wieght": 1}):
        assert service.patch("/v1/models/starter-outline-lora", json=wrong).status_code == 422
    assert service.patch("/v1/models/starter-outline-lora", json={"weight": None}).status_code == 200
    assert weight() == recommended


def test_models_and_filters(service: Service) -> None:
    def names(**query: str) -> list[str]:
        return [m["name"] for m in service.get("/v1/models", params=query).json()["models"]]

    assert names(kind="checkpoint") == ["starter-base"]
    assert names(kind="lcm_lora") == ["starter-lcm-lora"]
    assert names(kind="lora", q="heart") == ["starter-heart"]
    assert names(family="sdxl") == []
    model = service.get("/v1/models/starter-heart").json()
    assert model["weight"]["origin"] == "recommended"
    assert model["report"]["outcome"] == "identified"
    assert model["report"]["evidence"]


def test_compatible_loras_each_with_the_reason(service: Service) -> None:
    def verdicts(**query: Any) -> dict[str, dict[str, Any]]:
        answer = service.get("/v1/models/starter-base/compatible-loras", params=query).json()
        return {v["model"]["name"]: v for v in answer["loras"]}

    fitting = verdicts()
    assert set(fitting) >= {"starter-outline-lora", "starter-heart", "starter-lcm-lora"}
    assert all(v["fits"] and v["reason"] and v["matched"] == v["total"] > 0 for v in fitting.values())
    real = verdicts(all=True)["sd15"]
    assert not real["fits"]
    assert "tensors do not fit" in real["reason"]


def test_a_picture_and_the_plan_that_made_it(service: Service) -> None:
    made = generate(service, seed=5, n=2)
    assert [i["seed"] for i in made["images"]] == [5, 6]
    plan = made["plan"]
    assert plan["seed"] == {"value": 5, "origin": "requested", "by": "request"}
    assert plan["scheduler"]["origin"] == "recommended"
    assert plan["steps"]["value"] == 25
    picture = png(made)
    assert picture.size == (plan["width"]["value"], plan["height"]["value"]) == (64, 64)
    assert "Steps: 25" in picture.text["parameters"]  # type: ignore[attr-defined]
    assert made["timings"]["total"] > 0
    assert png(generate(service, seed=6)).tobytes() == png(made, 1).tobytes()


def test_an_lcm_lora_brings_its_sampler_and_says_so(service: Service) -> None:
    plan = generate(
        service, loras=[{"model": "starter-lcm-lora"}, {"model": "starter-outline-lora", "weight": 0.5}], seed=1
    )["plan"]
    assert (plan["scheduler"]["value"], plan["cfg"]["value"]) == ("lcm", 1.0)
    assert 4 <= plan["steps"]["value"] <= 8
    lcm, outline = plan["loras"]
    assert (lcm["weight"]["origin"], outline["weight"]["origin"]) == ("recommended", "requested")
    assert "model card" in lcm["weight"]["by"]


def test_loras_change_the_picture_and_leave_nothing_behind(service: Service) -> None:
    bare = png(generate(service, seed=3)).tobytes()
    style = {"loras": [{"model": "starter-outline-lora", "weight": 1.0}], "seed": 3}
    assert png(generate(service, **style)).tobytes() != bare
    assert png(generate(service, loras=[{"model": "starter-outline-lora", "weight": 0.0}], seed=3)).tobytes() == bare
    assert png(generate(service, seed=3)).tobytes() == bare


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"checkpoint": "nothing"}, 404, "model_not_found"),
        ({"checkpoint": "starter-heart"}, 422, "invalid_request"),
        ({"loras": [{"model": "nothing"}]}, 404, "model_not_found"),
        ({"loras": [{"model": "starter-base"}]}, 422, "invalid_request"),
        ({"loras": [{"model": "sd15"}]}, 409, "incompatible_adapter"),
        ({"loras": [{"model": "starter-heart", "weight": 99}]}, 422, "invalid_request"),
        ({"loras": [{"model": "starter-heart", "wieght": 1}]}, 422, "invalid_request"),
        ({"steps": 0}, 422, "invalid_request"),
        ({"scheduler": "no-such"}, 422, "invalid_request"),
        ({"width": 63}, 422, "invalid_request"),
        ({"width": 65536, "height": 65536}, 422, "invalid_request"),
        ({"prompt": None}, 422, "invalid_request"),
        ({"seed": -1}, 422, "invalid_request"),
    ],
)
def test_a_generation_that_cannot_be(service: Service, body: dict[str, Any], status: int, code: str) -> None:
    answer = service.post("/v1/generations", json={"checkpoint": "starter-base", "prompt": "a red circle", **body})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/models/nothing", 404, "model_not_found"),
        ("/v1/models/starter-heart/compatible-loras", 422, "invalid_request"),
        ("/v1/models?kind=vae", 422, "invalid_request"),
        ("/v1/models?kind=nonsense", 422, "invalid_request"),
        ("/v1/models?limit=0", 422, "invalid_request"),
        ("/v1/models?limit=100000000000000000000", 422, "invalid_request"),
        ("/v1/installs/nothing", 404, "install_not_found"),
        ("/v1/installs/nothing/events", 404, "install_not_found"),
        ("/nowhere", 404, "not_found"),
    ],
)
def test_a_question_that_has_no_answer(service: Service, path: str, status: int, code: str) -> None:
    answer = service.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("body", [{"source": ""}, {"sauce": "a/b"}, [], "text"])
def test_an_install_that_is_no_install(service: Service, body: Any) -> None:
    answer = service.post("/v1/installs", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
