"""/metrics of a service that generates, read by Prometheus' own parser."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.slow


def samples(service: httpx.Client) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(service.get("/metrics").text)
        for sample in family.samples
    }


def test_switches_waiting_and_residency_are_measured(service: httpx.Client) -> None:
    before = samples(service)
    body = {"checkpoint": "starter-base", "prompt": "a red circle", "steps": 2, "n": 2}
    assert service.post("/v1/generations", json=body).status_code == 200
    after = samples(service)

    def grown(*key: str) -> float:
        return after[key] - before.get(key, 0)

    assert grown("modelshelf_generations_total", "succeeded") == 1
    assert grown("modelshelf_pictures_total") == 2
    assert grown("modelshelf_queue_wait_seconds_count") == 1
    for part in ("load", "adapters", "denoise", "total"):
        assert grown("modelshelf_generation_seconds_count", part) == 1
    used, budget = (after[f"modelshelf_resident_{what}", "cpu", "device"] for what in ("bytes", "budget_bytes"))
    assert 0 < used < budget
