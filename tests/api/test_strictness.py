"""What is not meant is refused: query parameters and fields that are not there, and values of another type, in /v1."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import Starter
from tests.api.openapi import document

STRICT = [
    path
    for path, found in document()["paths"].items()
    if path.startswith("/v1/") and not path.startswith("/v1/images/") and "get" in found
]


@pytest.fixture(scope="module")
def http(starter: Starter) -> TestClient:
    return starter.http


@pytest.mark.parametrize("path", STRICT)
def test_a_query_parameter_that_is_not_there_is_refused_everywhere(http: TestClient, path: str) -> None:
    answer = http.get(path.replace("{", "").replace("}", ""), params={"famly": "sd-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert (answer.json()["code"], answer.json()["facts"]["field"]) == ("invalid_request", "famly")


def test_it_is_named_beside_those_that_are(http: TestClient) -> None:
    problem = http.get("/v1/models?limit=3&famly=sd-1").json()
    assert problem["detail"].startswith("There is no query parameter 'famly'; there are kind, family, tag, ")
    assert {"family", "sort", "cursor"} <= set(problem["facts"]["known"])
    assert http.get("/v1/families?x=1").json()["detail"].endswith("this operation has none.")
    assert http.post("/v1/generations?wiat=false", json={}).json()["facts"]["field"] == "wiat"


@pytest.mark.parametrize("path", ["/v1/duplicates?cursor=a&cursor=b", "/v1/models?family=sd-1&limit=1&family=sdxl"])
def test_one_that_is_given_twice_is_refused_whichever_is_meant(http: TestClient, path: str) -> None:
    problem = http.get(path).json()
    assert (problem["status"], problem["code"]) == (422, "invalid_request")
    assert problem["detail"].endswith("is given 2 times; give it once.")


@pytest.mark.parametrize(
    "path",
    ["/v1/models?family=sd-1&limit=1", "/sdapi/v1/samplers?x=1", "/healthz?x=1", "/metrics?x=1", "/?utm_source=x"],
)
def test_what_is_there_and_what_others_apis_pass_over_is_taken(http: TestClient, path: str) -> None:
    assert http.get(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/plans", {"checkpoint": "starter-base", "prompt": "x", "steps": "4"}),
        ("/v1/plans", {"checkpoint": "starter-base", "prompt": "x", "cfg": True}),
        ("/v1/plans", {"checkpoint": "starter-base", "prompt": "x", "loras": [{"model": "a", "weight": "1"}]}),
        ("/v1/plans", {"checkpoint": "starter-base", "prompt": "x", "n": 1.5}),
        ("/v1/scans", {"folder": "/models", "afresh": "yes"}),
        ("/v1/tasks", {"kind": "verify", "models": "starter-base"}),
    ],
)
def test_a_value_of_another_type_is_refused(http: TestClient, path: str, body: dict[str, Any]) -> None:
    assert http.post(path, json=body).status_code == 422


def test_a_whole_number_is_a_number_and_enumerations_are_text(http: TestClient) -> None:
    body = {"checkpoint": "starter-base", "prompt": "x", "cfg": 5, "strength": None, "steps": 4}
    assert http.post("/v1/plans", json=body).status_code == 200
    assert http.post("/v1/tasks", json={"kind": "verify"}).status_code == 202
