"""POST /v1/plans: what a generation would do, so that a client can show it before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Starter


def preview(starter: Starter, **body: Any) -> dict[str, Any]:
    answer = starter.http.post("/v1/plans", json={"checkpoint": "starter-base", "prompt": "a red circle", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def test_an_lcm_lora_sets_the_sampler_and_taking_it_off_takes_it_back(starter: Starter) -> None:
    before = preview(starter, seed=1)
    beside = preview(starter, seed=1, loras=[{"model": "starter-lcm-lora"}])["plan"]
    assert (beside["scheduler"]["value"], beside["cfg"]["value"]) == ("lcm", 1.0)
    assert beside["scheduler"]["origin"] == "recommended"
    assert "starter-lcm-lora" in beside["scheduler"]["by"]
    assert preview(starter, seed=1) == before
    assert before["plan"]["scheduler"]["value"] != "lcm"


def test_what_is_recommended_is_told_beside_what_was_asked_for(starter: Starter) -> None:
    lora = {"model": "starter-outline-lora", "weight": 0.3}
    found = preview(starter, loras=[lora], steps=3, cfg=2, scheduler="DDIM", width=32, height=32)
    asked, otherwise = found["plan"], found["recommended"]
    for name, value in (("steps", 3), ("cfg", 2), ("scheduler", "ddim"), ("width", 32), ("height", 32)):
        assert (asked[name]["value"], asked[name]["origin"]) == (value, "requested")
        assert otherwise[name]["origin"] != "requested"
    assert (asked["loras"][0]["weight"]["value"], otherwise["loras"][0]["weight"]["value"]) == (0.3, 0.75)


def test_the_range_of_a_weight_is_the_users_own_where_there_is_one(starter: Starter) -> None:
    found = preview(starter, loras=[{"model": "starter-outline-lora"}])
    model = found["plan"]["loras"][0]["id"]
    assert found["ranges"] == {}
    own = {"weight_min": 0.4, "weight_max": 1.1}
    assert starter.http.patch(f"/v1/models/{model}", json=own).status_code == 200
    told = preview(starter, loras=[{"model": model}])["ranges"][model]
    assert (told["min"], told["max"], told["origin"]) == (0.4, 1.1, "user")
    back = {"weight_min": None, "weight_max": None}
    assert starter.http.patch(f"/v1/models/{model}", json=back).status_code == 200
    assert preview(starter, loras=[{"model": model}])["ranges"] == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight_min": 0.4},
        {"weight_max": 0.4},
        {"weight_min": 0.9, "weight_max": 0.4},
        {"weight_min": 0.5, "weight_max": 0.5},
        {"weight_min": -9, "weight_max": 1},
    ],
)
def test_a_range_that_is_none(starter: Starter, wrong: dict[str, float]) -> None:
    answer = starter.http.patch("/v1/models/starter-heart", json=wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_plan_runs_nothing_and_needs_no_prompt(starter: Starter) -> None:
    assert preview(starter, prompt="")["plan"]["prompt"] == ""
    assert starter.manager._backend.made is None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"checkpoint": "nothing"}, 404, "model_not_found"),
        ({"loras": [{"model": "starter-base"}]}, 422, "invalid_request"),
        ({"steps": 0}, 422, "invalid_request"),
        ({"scheduler": "no-such"}, 422, "invalid_request"),
    ],
)
def test_a_plan_that_cannot_be(starter: Starter, body: dict[str, Any], status: int, code: str) -> None:
    answer = starter.http.post("/v1/plans", json={"checkpoint": "starter-base", "prompt": "a red circle", **body})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_schedulers_have_names_that_requests_take_and_labels(starter: Starter) -> None:
    known = starter.http.get("/v1/schedulers").json()["schedulers"]
    assert {"name": "lcm", "label": "LCM"} in known
    for scheduler in known:
        assert preview(starter, scheduler=scheduler["name"])["plan"]["scheduler"]["value"] == scheduler["name"]
