"""What whoever runs the service relies on: request ids, logs, limits, metrics, health, settings, deletion, streams that go on."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from api.metrics import METRICS
from registry.backends import BackendOptions
from registry.errors import WrongState
from registry.manager import Manager
from registry.measures import What
from registry.once import Once
from registry.scopes import Scope
from registry.settings import Settings
from tests.api.conftest import Starter
from tests.conftest import STARTER
from tests.registry.backends.painter import Painter
from tests.service import MODELSHELF, environment

NOBODY = "http://127.0.0.1:1"


def app(manager: Manager, *, is_local: bool = True, **headers: str) -> TestClient:
    return TestClient(create_app(manager, is_local=is_local), base_url="http://127.0.0.1", headers=headers)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Manager]:
    """With limits that are soon reached."""
    settings = Settings(root=tmp_path / "root", hub_endpoint=NOBODY, max_body_mib=0.001, requests_per_minute=3)
    manager = Manager(settings)
    yield manager
    manager.close()


class TestRequestIds:
    def test_a_request_s_own_is_kept_and_told(self, manager: Manager) -> None:
        answer = app(manager).get("/v1/models/nothing", headers={"X-Request-ID": "mine-1"})
        assert answer.headers["x-request-id"] == answer.json()["request_id"] == "mine-1"

    @pytest.mark.parametrize("forged", ["", "two words", "x" * 200, "a\tb"])
    def test_one_that_could_forge_a_line_of_the_log_is_not(self, manager: Manager, forged: str) -> None:
        answer = app(manager).get("/healthz", headers={"X-Request-ID": forged})
        assert re.fullmatch("[0-9a-f]{12}", answer.headers["x-request-id"])

    def test_an_error_that_nobody_foresaw_is_a_problem_with_an_id(
        self, manager: Manager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(manager.catalog, "counts", lambda: 1 / 0)
        answer = app(manager).get("/v1/families")
        assert (answer.status_code, answer.json()["code"]) == (500, "error")
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert "ZeroDivisionError" in caplog.text
        assert "division" not in answer.text.lower()


class TestLimits:
    def test_a_body_that_is_too_large(self, small: Manager) -> None:
        body = json.dumps({"source": "x" * 2000})
        for content in (body, iter([body.encode()])):  # its length announced, and not
            answer = app(small).post("/v1/probe", content=content, headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
            assert "MODELSHELF_MAX_BODY_MIB" in answer.json()["detail"]

    def test_requests_of_one_token(self, small: Manager) -> None:
        http = app(small, is_local=False)
        one, other = ({"Authorization": f"Bearer {small.tokens.create(name)}"} for name in ("one", "other"))
        answers = [http.get("/v1/schedulers", headers=one) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[-1].json()["code"] == "rate_limited"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert http.get("/v1/schedulers", headers=other).status_code == 200

    def test_this_machine_is_not_counted(self, small: Manager) -> None:
        assert {app(small).get("/v1/schedulers").status_code for _ in range(5)} == {200}

    @pytest.mark.parametrize(
        ("asked", "field"), [({"n": 3}, "n"), ({"width": 1024}, "width"), ({"prompt": "x" * 11}, "prompt")]
    )
    def test_what_one_generation_may_ask_for(self, tmp_path: Path, asked: dict[str, Any], field: str) -> None:
        settings = Settings(root=tmp_path, hub_endpoint=NOBODY, max_pictures=2, max_side=512, max_prompt=10)
        manager = Manager(settings)
        try:
            manager.install(str(STARTER / "modelshelf/starter-base"))
            answer = app(manager).post("/v1/plans", json={"checkpoint": "starter-base", "prompt": "a cat", **asked})
        finally:
            manager.close()
        assert (answer.status_code, answer.json()["facts"]["field"]) == (422, field)


class TestMetrics:
    def test_everything_that_is_measured_is_shown(self) -> None:
        assert METRICS.keys() == set(What)

    def test_what_has_happened_is_counted(self, manager: Manager, hub: Any) -> None:
        http = app(manager)
        installed = manager.install("modelshelf/starter-outline-lora")
        http.post("/v1/probe", json={"source": "modelshelf/starter-outline-lora"})
        http.get("/v1/models/nothing")
        answer = http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }
        assert samples["modelshelf_installs_total", "installed"] == 1
        assert samples[("modelshelf_downloaded_bytes_total",)] == installed.size
        assert samples[("modelshelf_probe_seconds_count",)] == 1
        assert samples["modelshelf_models", "sd-1", "lora"] == 1
        assert samples[("modelshelf_queue_waiting",)] == 0
        assert samples["modelshelf_http_request_seconds_count", "GET", "/v1/models/{model_id}", "404"] == 1


def test_ready_means_that_it_can_work(manager: Manager) -> None:
    http = app(manager)
    assert http.get("/readyz").json() == {"status": "ok"}
    gone = manager.settings.root.rename(manager.settings.root.with_name("gone"))
    answer = http.get("/readyz")
    gone.rename(manager.settings.root)
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


def test_settings_are_shown_without_their_secrets(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, hub_token="hf_secret", queue=5)
    shown = {setting.name: setting for setting in settings.shown()}
    assert shown.keys() == Settings.model_fields.keys()
    assert (shown["queue"].value, shown["queue"].default, shown["queue"].variable) == (5, False, "MODELSHELF_QUEUE")
    assert (shown["hub_token"].value, shown["hub_token"].variable) == ("set", "HF_TOKEN")
    addresses = {"database_url": "postgresql://me:secret@host/db", "hub_endpoint": "https://me:secret@hub.example/x"}
    hidden = {s.name: s.value for s in Settings(root=tmp_path, **addresses).shown()}
    assert (hidden["database_url"], hidden["hub_endpoint"]) == ("postgresql://...", "https://hub.example/x")
    manager = Manager(settings)
    try:
        answer = app(manager).get("/v1/settings")
    finally:
        manager.close()
    assert {s["name"] for s in answer.json()["settings"]} == shown.keys()
    assert "secret" not in answer.text


class TestDeletion:
    @pytest.mark.parametrize(("query", "left"), [("", True), ("?files=keep", True), ("?files=remove", False)])
    def test_its_file_is_kept_or_removed(self, manager: Manager, query: str, left: bool) -> None:
        model = manager.install(str(STARTER / "modelshelf/starter-outline-lora"))
        path = manager.catalog.path(model)
        http = app(manager)
        assert http.delete(f"/v1/models/{model.name}{query}").status_code == 204
        assert http.get(f"/v1/models/{model.id}").status_code == 404
        assert path.exists() is left

    def test_one_that_a_generation_works_with_stays(self, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
        class Busy:
            def evict(self, digest: str) -> None:
                raise WrongState(f"A generation works with {digest}.")

            residents = load = evict

        model = manager.install(str(STARTER / "modelshelf/starter-outline-lora"))
        monkeypatch.setattr(manager, "_backend", Once(Busy))
        manager._backend()
        assert app(manager).delete(f"/v1/models/{model.id}?files=remove").status_code == 409
        assert manager.catalog.path(model).exists()
        monkeypatch.setattr(manager, "_backend", Once(lambda: Painter(BackendOptions())))  # which keeps nothing loaded
        manager._backend()
        assert app(manager).delete(f"/v1/models/{model.id}?files=remove").status_code == 204

    def test_what_was_scanned_in_place_is_never_removed(self, manager: Manager, tmp_path: Path) -> None:
        file = tmp_path / "mine/outline.safetensors"
        file.parent.mkdir()
        shutil.copy(next((STARTER / "modelshelf/starter-outline-lora").glob("*.safetensors")), file)
        manager.scans.scan(file.parent)
        http = app(manager)
        refused = http.delete("/v1/models/outline?files=remove")
        assert (refused.status_code, refused.json()["code"]) == (409, "wrong_state")
        assert http.delete("/v1/models/outline").status_code == 204
        assert file.exists()


def events(http: httpx.Client, path: str, after: str = "0") -> list[tuple[str, str]]:
    """Name and id of every event until the stream ends."""
    with http.stream("GET", path, headers={"Last-Event-ID": after}) as stream:
        lines = [line.partition(": ")[::2] for line in stream.iter_lines()]
    names, ids = ([value for field, value in lines if field == wanted] for wanted in ("event", "id"))
    return list(zip(names, ids, strict=True))


def test_an_install_s_events_go_on_after_the_last_one_seen(starter: Starter) -> None:
    location = starter.http.post("/v1/installs", json={"source": "modelshelf/starter-heart-lora"}).headers["location"]
    seen = events(starter.http, f"{location}/events")
    assert seen[-1][0] == "installed"
    assert [int(number) for _, number in seen] == sorted({int(number) for _, number in seen})
    assert events(starter.http, f"{location}/events", seen[-1][1]) == []
    assert events(starter.http, f"{location}/events", str(int(seen[-1][1]) - 1)) == seen[-1:]


class TestTasks:
    def test_verifying_over_the_network(self, manager: Manager) -> None:
        manager.install(str(STARTER / "modelshelf/starter-lcm-lora"))
        damaged = manager.install(str(STARTER / "modelshelf/starter-outline-lora"))
        path = manager.catalog.path(damaged)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        http = app(manager)
        answer = http.post("/v1/tasks", json={"kind": "verify"})
        assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/tasks/{answer.json()['id']}")
        seen = events(http, f"{answer.headers['location']}/events")
        assert seen[-1][0] == "succeeded"
        assert events(http, f"{answer.headers['location']}/events", seen[-1][1]) == []
        task = http.get(answer.headers["location"]).json()
        assert (task["done"], task["total"], task["counts"]) == (2, 2, {"whole": 1, "damaged": 1})
        assert [found["model_id"] for found in task["findings"]] == [damaged.id]
        assert [listed["findings"] for listed in http.get("/v1/tasks").json()["tasks"]] == [[]]

    def test_updates_are_looked_for_and_fetched(self, manager: Manager) -> None:
        manager.install("modelshelf/starter-outline-lora")
        http = app(manager)
        for kind in ("check-updates", "update"):
            location = http.post("/v1/tasks", json={"kind": kind}).headers["location"]
            events(http, f"{location}/events")
            assert http.get(location).json()["counts"] == {"current": 1}

    @pytest.mark.parametrize(
        ("body", "status"), [({"kind": "load"}, 422), ({"kind": "x"}, 422), ({"kind": "load", "models": ["no"]}, 404)]
    )
    def test_what_cannot_be_asked(self, manager: Manager, body: dict[str, Any], status: int) -> None:
        assert app(manager).post("/v1/tasks", json=body).status_code == status


@pytest.mark.slow
def test_the_log_is_an_object_a_line_and_knows_no_token(tmp_path: Path) -> None:
    manager = Manager(Settings(root=tmp_path, hub_endpoint=NOBODY))
    token = manager.tokens.create("ada", [Scope.READ])
    [known] = manager.tokens.list()
    manager.close()
    env = environment(tmp_path, NOBODY, MODELSHELF_LOG_FORMAT="json", MODELSHELF_LOG_LEVEL="info")
    command = [MODELSHELF, "serve", "--port", "0", "--host", "0.0.0.0"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        port = process.stdout.readline().split()[3].rpartition(":")[2]
        headers = {"Authorization": f"Bearer {token}", "X-Request-ID": "mine"}
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/models?q={token}", headers=headers, trust_env=False)
        process.terminate()
        lines = process.stderr.read().splitlines()
    assert answer.status_code == 200
    [line] = [told for told in map(json.loads, lines) if told.get("path") == "/v1/models"]
    assert (line["method"], line["status"], line["request_id"], line["caller"]) == ("GET", 200, "mine", known.id)
    assert line["level"] == "info"
    assert token not in "".join(lines)


def test_a_line_for_every_request(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "modelshelf.access")
    app(manager).get("/v1/models?q=secret")
    [record] = [r for r in caplog.records if r.name == "modelshelf.access"]
    assert (record.getMessage(), record.__dict__["caller"]) == ("GET /v1/models 200", "local")
    app(manager).get("/v1/models/a%0Aforged")
    assert caplog.records[-1].getMessage() == "GET /v1/models/a%0Aforged 404"
