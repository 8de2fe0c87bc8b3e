"""PATCH /v1/models/{id}: what the user says of a model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import Starter

URL = "/v1/models/starter-heart"


def test_name_tags_notes_and_triggers_are_edited_and_taken_back(starter: Starter) -> None:
    before = starter.http.get(URL).json()
    url = f"/v1/models/{before['id']}"
    own = {"name": " Heart ", "tags": ["Shapes"], "notes": "two\nlines", "triggers": ["a heart"]}
    edited = starter.http.patch(url, json=own).json()
    assert (edited["name"], edited["tags"], edited["triggers"]) == ("Heart", ["shapes"], ["a heart"])
    assert edited["overrides"]["notes"] == "two\nlines"
    assert [m["name"] for m in starter.http.get("/v1/models", params={"tag": "shapes"}).json()["models"]] == ["Heart"]
    plan = starter.http.post(
        "/v1/plans", json={"checkpoint": "starter-base", "prompt": "", "loras": [{"model": "Heart"}]}
    ).json()
    assert plan["plan"]["loras"][0]["triggers"] == ["a heart"]
    back = {"name": before["name"], "tags": None, "notes": None, "triggers": None}
    assert starter.http.patch(url, json=back).status_code == 200
    assert starter.http.get(url).json() == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "  "},
        {"name": None},
        {"name": "a<b>"},
        {"name": "../up"},
        {"name": "two\nlines"},
        {"name": "x" * 151},
        {"name": "Starter-Base"},
        {"name": "\ud800"},
        {"tags": [""]},
        {"tags": ["x"] * 51},
        {"tags": "one"},
        {"triggers": ["\0"]},
        {"notes": "x" * 10_001},
        {"notes": "\0"},
    ],
)
def test_what_cannot_be_said(starter: Starter, wrong: dict[str, Any]) -> None:
    before = starter.http.get(URL).json()
    answer = starter.http.patch(URL, content=json.dumps(wrong), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert starter.http.get(URL).json() == before
