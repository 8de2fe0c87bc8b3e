"""/v1/duplicates, /v1/waste, /v1/doctor and /v1/tokens: what whoever looks after a service asks of it."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.paging import page
from registry.manager import Manager
from registry.scopes import Scope
from registry.tokens import MOST
from tests.conftest import STARTER
from tests.demo.strangers import sd15_lora, write


def http(manager: Manager, token: str | None = None) -> TestClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return TestClient(create_app(manager), base_url="http://127.0.0.1", headers=headers)


def test_a_page_goes_on_behind_its_cursor_also_when_that_row_is_gone() -> None:
    rows = ["c", "a", "d", "b"]
    assert page(rows, str, 2, None) == (["a", "b"], "b")
    rows.remove("b")
    assert page(rows, str, 2, "b") == (["c", "d"], None)
    assert page(rows, str, 2, "z") == ([], None)
    assert page([], str, 2, None) == ([], None)


def test_duplicates_come_the_largest_first_a_page_at_a_time(manager: Manager) -> None:
    library = manager.settings.root / "mine"
    for rank in (2, 8, 4):
        for name in ("a", "b"):
            write(library / f"{name}{rank}.safetensors", sd15_lora(rank=rank))
    manager.scans.scan(library)
    client = http(manager)
    assert client.get("/v1/duplicates").json() == {"duplicates": [], "unhashed": 6, "next": None}
    list(manager.scans.digester.hash_all())
    first = client.get("/v1/duplicates?limit=2").json()
    rest = client.get("/v1/duplicates", params={"cursor": first["next"]}).json()
    groups = first["duplicates"] + rest["duplicates"]
    assert [[model["name"] for model in group["models"]] for group in groups] == [
        ["a8", "b8"],
        ["a4", "b4"],
        ["a2", "b2"],
    ]
    assert (rest["next"], rest["unhashed"]) == (None, 0)


def test_waste_is_shown_by_one_request_and_removed_by_another(manager: Manager) -> None:
    model = manager.install(str(STARTER / "modelshelf/starter-outline-lora"))
    manager.remove(model.id)
    client = http(manager)
    shown = client.get("/v1/waste").json()
    assert shown == {
        "files": [{"path": model.path, "size": model.size}],
        "count": 1,
        "size": model.size,
        "verdicts": 0,
        "next": None,
    }
    assert client.get("/v1/waste").json() == shown
    assert client.delete("/v1/waste").json() == {"count": 1, "size": model.size, "verdicts": 0}
    assert client.delete("/v1/waste").json() == {"count": 0, "size": 0, "verdicts": 0}


def test_a_doctor_s_report_changes_nothing(manager: Manager) -> None:
    before = sorted(manager.settings.root.rglob("*"))
    checks = http(manager).get("/v1/doctor").json()["checks"]
    assert {check["verdict"] for check in checks} <= {"ok", "note"}
    [advice] = [check["advice"] for check in checks if check["name"] == "models"]
    assert "modelshelf starter install" in advice
    assert sorted(manager.settings.root.rglob("*")) == before


class TestTokens:
    def test_the_secret_is_told_once_and_kept_by_no_cache(self, manager: Manager) -> None:
        client = http(manager)
        made = client.post("/v1/tokens", json={"name": "ada", "scopes": ["read"]})
        assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
        known = {name: value for name, value in made.json().items() if name != "token"}
        assert client.get("/v1/tokens").json() == {"tokens": [known]}
        assert http(manager, made.json()["token"]).get("/v1/models").status_code == 200
        assert client.delete(f"/v1/tokens/{known['id']}").status_code == 204
        assert http(manager, made.json()["token"]).get("/v1/models").status_code == 401

    def test_nobody_gives_away_more_than_he_has(self, manager: Manager) -> None:
        deputy = http(manager, manager.tokens.create("deputy", [Scope.MANAGE]))
        refused = deputy.post("/v1/tokens", json={"scopes": ["manage", "generate"]})
        assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
        assert refused.json()["facts"] == {"needed": ["generate"]}
        assert deputy.post("/v1/tokens", json={"scopes": ["manage"]}).status_code == 201

    @pytest.mark.parametrize("wrong", [{"scopes": []}, {"scopes": ["all"]}, {"name": "a\x1b[31m"}, {"names": "a"}])
    def test_what_cannot_be_asked_for(self, manager: Manager, wrong: dict[str, object]) -> None:
        assert http(manager).post("/v1/tokens", json=wrong).status_code == 422

    def test_there_are_no_more_than_a_list_tells(self, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("registry.tokens.MOST", 1)
        assert MOST > 1
        manager.tokens.create("ada")
        assert "makes room" in http(manager).post("/v1/tokens", json={}).json()["detail"]
