"""What a running service has loaded, over HTTP and on the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import STARTER
from tests.hub import LoopbackHub
from tests.service import MODELSHELF, environment, running_service

pytestmark = pytest.mark.slow

Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[httpx.Client, Ask]]:
    """A client of a new service with the starter installed, and the command line pointed at the same service."""
    shutil.copytree(STARTER, tmp_path / "hub")
    with LoopbackHub(tmp_path / "hub") as hub:
        env = environment(tmp_path / "root", hub.endpoint)
        for name in ("starter-base", "starter-outline-lora"):
            subprocess.run([MODELSHELF, "install", f"modelshelf/{name}"], env=env, check=True, capture_output=True)
        with running_service(tmp_path / "root", hub.endpoint) as client:
            port = str(client.base_url.port)

            def ask(*words: str) -> subprocess.CompletedProcess[str]:
                env = environment(tmp_path / "root", hub.endpoint, MODELSHELF_PORT=port)
                return subprocess.run([MODELSHELF, *words], env=env, capture_output=True, text=True, check=False)

            yield client, ask


def _names(residency: dict[str, Any]) -> list[str]:
    return [model["name"] for model in residency["models"]]


def test_load_generate_show_evict(service: tuple[httpx.Client, Ask]) -> None:
    client, ask = service
    assert client.get("/v1/residency").json() == {
        "tiers": [],
        "models": [],
    }  # nothing was asked for, nothing is imported

    loaded = client.put("/v1/residency/starter-base").json()
    assert _names(loaded) == ["starter-base"]
    (tier,) = loaded["tiers"]
    assert tier["name"] == "device"
    assert 0 < tier["used"] == loaded["models"][0]["nbytes"] < tier["budget"]

    body = {"checkpoint": "starter-base", "prompt": "a circle", "steps": 1, "seed": 1}
    made = client.post(
        "/v1/generations",
        json={**body, "loras": [{"model": "starter-outline-lora", "weight": 0.5, "text_weight": -0.2}]},
    )
    assert made.status_code == 200, made.text
    (lora,) = made.json()["plan"]["loras"]
    assert (lora["weight"]["value"], lora["text_weight"]["value"]) == (0.5, -0.2)
    shown = client.get("/v1/residency").json()
    assert sorted(_names(shown)) == ["starter-base", "starter-outline-lora"]
    assert all(model["holders"] == [] and model["idle"] >= 0 for model in shown["models"])
    assert shown["tiers"][0]["used"] > tier["used"]  # with an overlay on

    assert json.loads(ask("ps", "--json").stdout)["tiers"] == shown["tiers"]
    assert "starter-outline-lora" in ask("ps").stdout
    assert "starter-base" not in ask("evict", "starter-base").stdout
    gone = ask("evict", "starter-base")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "[not_resident]" in gone.stderr
    assert "starter-base" in ask("load", "starter-base").stdout
    assert client.delete("/v1/residency/starter-base").status_code == 200


def test_what_a_switch_costs_and_what_is_loaded_is_measured(service: tuple[httpx.Client, Ask]) -> None:
    client, _ = service
    body = {"checkpoint": "starter-base", "prompt": "a circle", "steps": 1, "seed": 1}
    before = _measured(client)
    for weight in (0.5, 1.0):
        loras = [{"model": "starter-outline-lora", "weight": weight}]
        assert client.post("/v1/generations", json={**body, "loras": loras}).status_code == 200
    after = _measured(client)
    for part in ("load", "adapters"):
        counted, summed = ((f"modelshelf_generation_seconds_{what}", part) for what in ("count", "sum"))
        assert after[counted] == before.get(counted, 0) + 2
        assert after[summed] > before.get(summed, 0)
    for tier in client.get("/v1/residency").json()["tiers"]:
        assert after["modelshelf_resident_bytes", tier["device"], tier["name"]] == tier["used"] > 0
    assert "adapters is the switching of LoRAs" in client.get("/metrics").text


def _measured(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """By name and the labels' values, in the order of their names."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if "le" not in sample.labels
    }


@pytest.mark.parametrize(
    ("method", "model", "status", "code"),
    [
        ("PUT", "starter-outline-lora", 422, "invalid_request"),
        ("PUT", "nowhere", 404, "model_not_found"),
        ("DELETE", "nowhere", 404, "model_not_found"),
    ],
)
def test_what_cannot_be_loaded_or_evicted_is_said(
    service: tuple[httpx.Client, Ask], method, model, status, code
) -> None:
    answer = service[0].request(method, f"/v1/residency/{model}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_without_a_service_the_command_says_so(tmp_path: Path) -> None:
    env = environment(tmp_path, "http://127.0.0.1:9", MODELSHELF_PORT="9")
    done = subprocess.run([MODELSHELF, "ps"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "[service_unreachable]" in done.stderr
    assert "modelshelf serve" in done.stderr
