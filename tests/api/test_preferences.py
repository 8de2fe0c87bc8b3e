"""Prefer: problem-status=200, for pages whose browser would log every refused request."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.preferences import PREFERENCE
from registry.manager import Manager

ABSENT = "/v1/models/nothing"


def client(manager: Manager, *, is_local: bool = True) -> TestClient:
    return TestClient(create_app(manager, is_local=is_local), base_url="http://127.0.0.1:8420")


@pytest.mark.parametrize("stated", [PREFERENCE, f"respond-async, {PREFERENCE.upper()}; foo=1"])
def test_a_problem_comes_with_status_200_and_its_own_in_the_body(manager: Manager, stated: str) -> None:
    http = client(manager)
    answer = http.get(ABSENT, headers={"Prefer": stated})
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (200, 404, "model_not_found")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["preference-applied"] == PREFERENCE
    assert 'route="/v1/models/{model_id}",status="404"' in http.get("/metrics").text


@pytest.mark.parametrize("stated", [None, "problem-status=404", "handling=strict"])
def test_nobody_else_is_told_that_all_is_well(manager: Manager, stated: str | None) -> None:
    answer = client(manager).get(ABSENT, headers={"Prefer": stated} if stated else {})
    assert answer.status_code == 404
    assert "preference-applied" not in answer.headers


def test_a_success_stays_as_it_is(manager: Manager) -> None:
    answer = client(manager).get("/v1/models", headers={"Prefer": PREFERENCE})
    assert answer.status_code == 200
    assert "preference-applied" not in answer.headers


def test_a_browser_is_still_asked_for_a_password(manager: Manager) -> None:
    assert client(manager, is_local=False).get(ABSENT, headers={"Prefer": PREFERENCE}).status_code == 401
