"""POST /v1/probe: what an address is, and which of the installed checkpoints it fits, before anything is downloaded."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Starter
from tests.bad_sources import BAD_SOURCES, files_below


def ask(starter: Starter, source: str) -> dict[str, Any]:
    answer = starter.http.post("/v1/probe", json={"source": source})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def test_a_lora_its_family_its_size_and_the_checkpoints_that_it_fits(starter: Starter) -> None:
    found = ask(starter, "https://huggingface.co/modelshelf/starter-heart-lora")
    assert (found["kind"], found["family"], found["name"]) == ("lora", "sd-1", "starter-heart")
    assert found["size"] == starter.http.get("/v1/models/starter-heart").json()["size"]
    assert found["report"]["evidence"]
    (verdict,) = found["checkpoints"]
    assert (verdict["model"]["name"], verdict["fits"]) == ("starter-base", True)
    assert found["refusal"] is None


def test_a_lora_that_fits_none_says_why(starter: Starter) -> None:
    (verdict,) = ask(starter, "somebody/sd15")["checkpoints"]
    assert not verdict["fits"]
    assert "tensors do not fit" in verdict["reason"]


def test_a_checkpoint_is_compared_with_nothing(starter: Starter) -> None:
    found = ask(starter, "modelshelf/starter-base")
    assert (found["kind"], found["checkpoints"]) == ("checkpoint", [])


def test_what_is_installed_already_is_recognised_by_its_digest(starter: Starter) -> None:
    assert ask(starter, "modelshelf/starter-lcm-lora")["installed"]["name"] == "starter-lcm-lora"
    assert ask(starter, "somebody/sd15")["installed"] is None


def test_only_headers_are_read_and_nothing_is_kept(starter: Starter) -> None:
    before = files_below(starter.manager.settings.root)
    starter.hub.seen.clear()
    ask(starter, "somebody/sd15")
    ranges = [seen for seen in starter.hub.seen if seen.path.endswith(".safetensors") and seen.method == "GET"]
    assert ranges
    assert all(seen.range for seen in ranges)
    assert files_below(starter.manager.settings.root) == before


@pytest.mark.parametrize(("source", "code", "status"), BAD_SOURCES)
def test_what_an_install_would_refuse_is_told_with_the_same_code(
    starter: Starter, source: str, code: str, status: int
) -> None:
    """Either there is nothing to look at, or it was looked at and would be refused."""
    answer = starter.http.post("/v1/probe", json={"source": source})
    told = answer.json() if answer.is_error else answer.json()["refusal"]
    assert (told["code"], told["status"]) == (code, status)


def test_the_checkpoints_that_a_lora_fits(starter: Starter) -> None:
    fitting = starter.http.get("/v1/models/starter-heart/compatible-checkpoints").json()
    assert [v["model"]["name"] for v in fitting["checkpoints"]] == ["starter-base"]
    answer = starter.http.get("/v1/models/starter-base/compatible-checkpoints")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_families_with_their_numbers(starter: Starter) -> None:
    assert starter.http.get("/v1/families").json()["families"] == [
        {"family": "sd-1", "models": 4, "kinds": {"checkpoint": 1, "lora": 2, "lcm_lora": 1}}
    ]
