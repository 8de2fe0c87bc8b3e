"""Lists, pages, 304 and scans, over HTTP against a real process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel

from api.app import create_app
from api.schemas.models import CompatibleCheckpoints, CompatibleLoras, ModelDetail, ModelList
from registry.manager import Manager
from registry.models import Model, Provenance, Statement, computed
from registry.queries import MAX_LIMIT
from registry.scans.record import folder_scanned
from registry.tables import now
from tests.conftest import STARTER
from tests.hub import LoopbackHub
from tests.registry.scans.library import lora
from tests.service import running_service

pytestmark = pytest.mark.slow

COUNT = 7


class Service(httpx.Client):
    folder: Path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With a folder of LoRAs that it may scan, scanned and hashed."""
    folder = tmp_path_factory.mktemp("catalogue")
    (folder / "library/ink").mkdir(parents=True)
    for n in range(COUNT):
        data = lora(f"Ink {n}", **{"modelspec.trigger_phrase": f"ink{n}"})
        (folder / "library/ink" / f"ink-{n}.safetensors").write_bytes(data)
    with (
        LoopbackHub(STARTER) as hub,
        running_service(
            folder / "root", hub.endpoint, Service, MODELSHELF_ALLOWED_FOLDERS=str(folder / "library")
        ) as client,
    ):
        client.folder = folder / "library"
        assert scan(client, client.folder)[-1]["state"] == "done"
        until = time.monotonic() + 60  # each model that is hashed meanwhile would be a change of the catalogue
        while None in [model["blake3"] for model in client.get("/v1/models").json()["models"]]:
            assert time.monotonic() < until, "the service does not hash what it scanned"
            time.sleep(0.2)
        yield client


def scan(client: httpx.Client, folder: Path) -> list[dict[str, Any]]:
    """Every event of a scan."""
    answer = client.post("/v1/scans", json={"folder": str(folder)})
    assert answer.status_code == 202, answer.text
    with client.stream("GET", f"{answer.headers['location']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]


def names(client: httpx.Client, **query: Any) -> list[str]:
    return [m["name"] for m in client.get("/v1/models", params=query).json()["models"]]


def test_a_scan_tells_its_counts_and_its_folders(service: Service) -> None:
    events = scan(service, service.folder)
    assert events[-1]["counts"] == {
        "unchanged": COUNT,
        "added": 0,
        "changed": 0,
        "moved": 0,
        "missing": 0,
        "skipped": 0,
    }
    assert events[-1]["skips"] == []
    listed = service.get("/v1/scans").json()
    assert listed["folders"] == [str(service.folder)]
    assert listed["scans"][0]["id"] == events[-1]["id"]
    assert service.get(f"/v1/scans/{events[-1]['id']}").json()["state"] == "done"
    assert service.delete(f"/v1/scans/{events[-1]['id']}").status_code == 409


def test_a_scan_tells_what_it_passed_over_and_why(service: Service) -> None:
    old = service.folder / "old.ckpt"
    old.write_bytes(b"\x80\x02" + bytes(64))
    try:
        done = scan(service, service.folder)[-1]
        assert done["counts"]["skipped"] == 1
        assert done["skips"] == [{"reason": "pickle", "count": 1, "examples": [str(old)]}]
        assert service.get(f"/v1/scans/{done['id']}").json()["skips"] == done["skips"]
    finally:
        old.unlink()


@pytest.mark.parametrize(
    ("folder", "status"),
    [("/etc", 403), ("relative", 422), ("", 422), ("{library}/../..", 403), ("{library}/none", 202)],
)
def test_only_folders_that_may_be_scanned_are(service: Service, folder: str, status: int) -> None:
    answer = service.post("/v1/scans", json={"folder": folder.format(library=service.folder)})
    assert answer.status_code == status
    if status == 202:
        with service.stream("GET", f"{answer.headers['location']}/events") as stream:
            events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
        assert (events[-1]["state"], events[-1]["error"]["code"]) == ("failed", "file_not_found")
    else:
        assert answer.json()["code"] == {403: "path_refused", 422: "invalid_request"}[status]


def test_of_the_folders_the_last_ones_are_listed_and_all_may_be_scanned_again(manager: Manager) -> None:
    with manager._engine.begin() as connection:
        for number in range(MAX_LIMIT + 1):
            folder_scanned(connection, f"/models/{number}")
    http = TestClient(create_app(manager), base_url="http://127.0.0.1")
    assert http.get("/v1/scans").json()["folders"] == [f"/models/{number}" for number in range(MAX_LIMIT, 0, -1)]
    assert http.post("/v1/scans", json={"folder": "/models/0"}).status_code == 202


def test_a_scan_that_does_not_exist(service: Service) -> None:
    for answer in (
        service.get("/v1/scans/none"),
        service.get("/v1/scans/none/events"),
        service.delete("/v1/scans/none"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "scan_not_found")


def test_pages_follow_each_other(service: Service) -> None:
    found, cursor = [], None
    while True:
        query = {"limit": 3, "sort": "-name"} | ({"cursor": cursor} if cursor else {})
        page = service.get("/v1/models", params=query).json()
        found += [m["name"] for m in page["models"]]
        if (cursor := page["next"]) is None:
            break
    assert found == [f"ink-{n}" for n in reversed(range(COUNT))]


def test_filters(service: Service) -> None:
    assert names(service, q="INK 3") == ["ink-3"]
    assert names(service, q="ink3", family="sd-1", kind="lora") == ["ink-3"]
    assert names(service, tag="nothing") == []
    assert names(service, missing=True) == []
    detail = service.get("/v1/models/ink-3").json()
    assert detail["sources"] == []
    assert (detail["managed"], detail["path"]) == (False, str(service.folder / "ink/ink-3.safetensors"))


def test_what_is_scanned_is_hashed_by_and_by_and_found_by_any_digest(service: Service) -> None:
    model = service.get("/v1/models/ink-3").json()
    for digest in (model["sha256"], model["blake3"][:10], f"sha256:{model['sha256'].upper()}"):
        assert names(service, digest=digest) == ["ink-3"]
    assert len(names(service, digest=model["autov3"][:12])) == COUNT, "the same weights under other headers"


@pytest.mark.parametrize(
    "query",
    [
        "sort=weight",
        "limit=0",
        "limit=1001",
        "cursor=x",
        "digest=xyz",
        "digest=12",
        "q=" + "x" * 300,
        "q=%00",
        "kind=vae",
    ],
)
def test_what_cannot_be_asked_is_a_problem(service: Service, query: str) -> None:
    answer = service.get(f"/v1/models?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models?limit=2", "/v1/models/ink-1"])
def test_an_unchanged_answer_is_not_sent_again(service: Service, path: str) -> None:
    service.patch("/v1/models/ink-1", json={"weight": 0.5})
    first = service.get(path)
    again = service.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert service.get(path, headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'}).status_code == 304
    assert service.get(path).content == first.content
    service.patch("/v1/models/ink-1", json={"weight": 0.6})
    changed = service.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v1/models", ModelList),
        ("/v1/models/ink", ModelDetail),
        ("/v1/models/ink/compatible-checkpoints?all=true", CompatibleCheckpoints),
        ("/v1/models/base/compatible-loras?all=true", CompatibleLoras),
    ],
)
def test_an_answer_is_to_the_byte_what_its_schema_would_write(
    manager: Manager, path: str, schema: type[BaseModel]
) -> None:
    said = (Statement("weight", 0.1 + 0.2, "card", "“ä\u2028”", 0.5, 1), Statement("base_model", "o/base", "card"))
    facts = {"family": "sd-1", "format": "safetensors", "size": 5 * 10**9, "missing_since": now()}
    for model in (
        Model(name="base", kind="checkpoint", path="b", digests=computed(blake3="b3"), **facts),
        Model(
            name="ink", kind="lora", path="i", statements=said, tags=("a",), sources=(Provenance("hf://o/i"),), **facts
        ),
    ):
        manager.catalog.add(model, {"reason": "made up"})
    manager.catalog.override("ink", {"weight": 1, "notes": "mine", "tags": ["B"]})
    answer = TestClient(create_app(manager), base_url="http://127.0.0.1").get(path)
    assert answer.status_code == 200, answer.text
    assert schema.model_validate_json(answer.content).model_dump_json() == answer.text


def test_an_error_has_no_etag(service: Service) -> None:
    answer = service.get("/v1/models/none", headers={"If-None-Match": '"x"'})
    assert answer.status_code == 404
    assert "etag" not in answer.headers


def test_compatible_with_wants_a_checkpoint(service: Service) -> None:
    answer = service.get("/v1/models?compatible_with=ink-1")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert service.get("/v1/models?compatible_with=none").status_code == 404
