"""What each scope opens, operation by operation; and that whoever generates sees his own generations, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from registry.manager import Manager
from registry.scopes import OPENS, Area, Scope, opening
from registry.settings import Settings
from tests.api.openapi import document
from tests.conftest import STARTER
from tests.databases import migrated_sqlite

OPERATIONS: dict[Area | None, tuple[str, ...]] = {
    None: ("GET /healthz", "GET /readyz", "GET /v1/images/files/{address}"),
    Area.SHELF: (
        *("GET /v1/models", "GET /v1/models/{model_id}", "GET /v1/models/{model_id}/preview", "GET /v1/families"),
        *("GET /v1/models/{model_id}/compatible-loras", "GET /v1/models/{model_id}/compatible-checkpoints"),
        *("POST /v1/plans", "GET /v1/schedulers"),
        *("GET /sdapi/v1/sd-models", "GET /sdapi/v1/loras", "GET /sdapi/v1/samplers", "GET /sdapi/v1/schedulers"),
        *("GET /sdapi/v1/options", "GET /sdapi/v1/scripts", "GET /sdapi/v1/memory", "GET /sdapi/v1/upscalers"),
        *("GET /sdapi/v1/latent-upscale-modes", "GET /sdapi/v1/sd-vae", "GET /sdapi/v1/hypernetworks"),
        *("GET /sdapi/v1/face-restorers", "GET /sdapi/v1/realesrgan-models", "GET /sdapi/v1/prompt-styles"),
        *("GET /sdapi/v1/embeddings", "GET /sdapi/v1/cmd-flags"),
    ),
    Area.WORK: (
        *(
            "GET /v1/installs",
            "GET /v1/installs/{install_id}",
            "GET /v1/installs/{install_id}/events",
            "POST /v1/probe",
        ),
        *("GET /v1/scans", "GET /v1/scans/{scan_id}", "GET /v1/scans/{scan_id}/events"),
        *("GET /v1/tasks", "GET /v1/tasks/{task_id}", "GET /v1/tasks/{task_id}/events"),
        *("GET /v1/duplicates", "GET /v1/residency", "GET /metrics"),
    ),
    Area.GENERATIONS: (
        *("GET /v1/generations", "GET /v1/generations/{generation_id}", "GET /v1/generations/{generation_id}/events"),
        "GET /sdapi/v1/progress",
    ),
    Area.GENERATE: (
        *("POST /v1/generations", "DELETE /v1/generations/{generation_id}", "POST /v1/images/generations"),
        *("POST /sdapi/v1/txt2img", "POST /sdapi/v1/img2img", "POST /sdapi/v1/options"),
        *("POST /sdapi/v1/interrupt", "POST /sdapi/v1/skip"),
    ),
    Area.MANAGE: (
        *("PATCH /v1/models/{model_id}", "DELETE /v1/models/{model_id}"),
        *("PUT /v1/models/{model_id}/preview", "DELETE /v1/models/{model_id}/preview"),
        *("POST /v1/installs", "DELETE /v1/installs/{install_id}", "POST /v1/installs/{install_id}/pause"),
        *("POST /v1/installs/{install_id}/resume", "POST /v1/installs/{install_id}/cancel"),
        *("POST /v1/installs/{install_id}/retry", "POST /v1/starter", "POST /v1/scans", "DELETE /v1/scans/{scan_id}"),
        *("POST /v1/tasks", "DELETE /v1/tasks/{task_id}", "GET /v1/waste", "DELETE /v1/waste"),
        *("PUT /v1/residency/{model_id}", "DELETE /v1/residency/{model_id}", "GET /v1/settings", "GET /v1/doctor"),
        *("GET /v1/tokens", "POST /v1/tokens", "DELETE /v1/tokens/{token}"),
        *("POST /sdapi/v1/refresh-checkpoints", "POST /sdapi/v1/refresh-loras"),
    ),
}
SCOPED = [(name, area) for area, names in OPERATIONS.items() if area for name in names]


def test_every_operation_stands_in_the_table_once() -> None:
    there = [f"{method.upper()} {path}" for path, found in document()["paths"].items() for method in found]
    assert sorted(there) == sorted(name for names in OPERATIONS.values() for name in names)


def test_every_scope_opens_something_that_no_other_does_and_every_area_is_opened() -> None:
    assert {area for areas in OPENS.values() for area in areas} == set(Area)
    for scope, areas in OPENS.items():
        assert all(areas - others for other, others in OPENS.items() if other is not scope)


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    root: Path = tmp_path_factory.mktemp("root")
    migrated_sqlite(root / "modelshelf.db")
    backend = "tests.registry.backends.painter:Painter"
    running = Manager(Settings(root=root, hub_endpoint="http://127.0.0.1:1", backend=backend))
    running.install(str(STARTER / "modelshelf/starter-base"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def tokens(manager: Manager) -> dict[str, str]:
    """By what they open; two that generate."""
    told = {str(scope): manager.tokens.create(scope, [scope]) for scope in Scope}
    return told | {"other": manager.tokens.create("other", [Scope.GENERATE])}


@pytest.fixture(scope="module")
def http(manager: Manager) -> TestClient:
    return TestClient(create_app(manager, is_local=False), base_url="http://shelf.example")


def shown(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(("name", "area"), SCOPED)
def test_an_operation_says_which_scopes_open_it_and_no_other_one_does(
    http: TestClient, tokens: dict[str, str], name: str, area: Area
) -> None:
    method, path = name.split()
    ways = document()["paths"][path][method.lower()]["security"]
    assert ways == [{way: [scope]} for way in ("bearer", "basic") for scope in opening(area)]
    for scope in set(Scope) - set(opening(area)):
        refused = http.request(method, path.replace("{", "").replace("}", ""), headers=shown(tokens[scope]))
        assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
        assert refused.json()["facts"]["needed"] == opening(area)
        assert refused.headers["content-type"] == "application/problem+json"


HARMLESS = [(name, area) for name, area in SCOPED if name.startswith("GET") or area is Area.SHELF]


@pytest.mark.parametrize(("name", "area"), HARMLESS)
def test_and_each_of_those_does(http: TestClient, tokens: dict[str, str], name: str, area: Area) -> None:
    method, path = name.split()
    for scope in opening(area):
        answer = http.request(method, path.replace("{", "").replace("}", ""), headers=shown(tokens[scope]))
        assert answer.status_code in (200, 404, 422)


def generated(http: TestClient, token: str, **more: Any) -> str:
    body = {"checkpoint": "starter-base", "prompt": "x", "steps": 2, "width": 16, "height": 16}
    made = http.post("/v1/generations", json=body, headers=shown(token), **more)
    assert made.is_success, made.text
    return str(made.json()["id"])


def test_whoever_may_only_generate_follows_his_own(http: TestClient, tokens: dict[str, str]) -> None:
    mine = shown(tokens["generate"])
    models = http.get("/v1/models?kind=checkpoint", headers=mine).json()["models"]
    assert [model["name"] for model in models] == ["starter-base"]
    fitting = http.get(f"/v1/models/{models[0]['id']}/compatible-loras", headers=mine)
    assert fitting.json()["loras"] == []
    planned = http.post("/v1/plans", json={"checkpoint": "starter-base", "prompt": "x"}, headers=mine)
    assert planned.json()["plan"]["checkpoint_name"] == "starter-base"
    job = generated(http, tokens["generate"], params={"wait": False})
    assert "event: succeeded" in http.get(f"/v1/generations/{job}/events", headers=mine).text
    assert len(http.get(f"/v1/generations/{job}", headers=mine).json()["images"]) == 1
    assert job in [g["id"] for g in http.get("/v1/generations", headers=mine).json()["generations"]]


def test_and_nobody_else_s_which_are_not_there_to_him(http: TestClient, tokens: dict[str, str]) -> None:
    job = generated(http, tokens["generate"])
    other = shown(tokens["other"])
    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
        answer = http.request(method, f"/v1/generations/{job}{path}", headers=other)
        assert (answer.status_code, answer.json()["code"]) == (404, "generation_not_found")
    assert job not in [g["id"] for g in http.get("/v1/generations", headers=other).json()["generations"]]


def test_whoever_may_read_sees_all_of_them(http: TestClient, tokens: dict[str, str]) -> None:
    jobs = {generated(http, tokens[name]) for name in ("generate", "other")}
    reader = shown(tokens["read"])
    assert jobs <= {g["id"] for g in http.get("/v1/generations", headers=reader).json()["generations"]}
    assert all(http.get(f"/v1/generations/{job}", headers=reader).status_code == 200 for job in jobs)


def test_over_other_programs_apis_they_have_their_owner_too(http: TestClient, tokens: dict[str, str]) -> None:
    prompts = {"/sdapi/v1/txt2img": "by webui", "/v1/images/generations": "by openai"}
    for path, prompt in prompts.items():
        small = {"width": 16, "height": 16} if path.startswith("/sdapi") else {"size": "16x16"}
        body = {"prompt": prompt, "steps": 2, **small}
        assert http.post(path, json=body, headers=shown(tokens["generate"])).status_code == 200
    seen = {
        name: {
            g["plan"]["prompt"] for g in http.get("/v1/generations", headers=shown(tokens[name])).json()["generations"]
        }
        for name in ("generate", "other")
    }
    assert set(prompts.values()) <= seen["generate"]
    assert not set(prompts.values()) & seen["other"]
