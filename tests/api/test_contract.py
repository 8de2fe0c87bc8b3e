"""The OpenAPI document: complete, reviewed, and kept by a live service, which schemathesis asks whatever it can think of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.manager import Manager
from registry.settings import Settings
from tests.api.openapi import SNAPSHOT, document
from tests.conftest import STARTER
from tests.hub import LoopbackHub
from tests.loopback import NETWORK
from tests.service import running_service

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"),
    *("response_headers_conformance", "unsupported_method", "allow_header_conformance"),
)
ROOT = Path(__file__).resolve().parents[2]
# Bounds that make every generation quick, whatever is asked for.
QUICK = {
    "MODELSHELF_BACKEND": "tests.registry.backends.painter:Painter",
    "MODELSHELF_MAX_SIDE": "64",
    "MODELSHELF_MAX_PICTURES": "2",
    "PYTHONPATH": str(ROOT),
}


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, found in document()["paths"].items():
        for method, operation in found.items():
            yield f"{method.upper()} {path}", operation


OPERATIONS = dict(operations())


def test_it_is_the_document_that_was_reviewed() -> None:
    assert json.loads(SNAPSHOT.read_text()) == document(), (
        "The OpenAPI document is not the reviewed one. Look at what `python -m tests.api.openapi` changes, and commit it."
    )


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_described(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]
    assert [p["name"] for p in operation.get("parameters", ()) if not p.get("description")] == []
    shared = document()["components"]["responses"]
    answers = {
        status: shared[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
        for status, answer in operation["responses"].items()
    }
    assert {"401", "403", "422", "429", "500"} <= set(answers)
    assert ("413" in answers) is ("requestBody" in operation)
    for status, answer in answers.items():
        assert answer["description"], status
        if int(status) >= 400:
            assert list(answer["content"]) == ["application/problem+json"]


@pytest.mark.parametrize("name", [name for name, told in OPERATIONS.items() if "requestBody" in told])
def test_every_body_has_an_example(name: str) -> None:
    for kind, content in OPERATIONS[name]["requestBody"]["content"].items():
        if kind != "application/json":
            continue
        schema = document()["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        told = [field.get("examples") for field in schema["properties"].values()]
        assert any(told) or schema.get("examples"), schema["title"]


def exemplified(schema: dict[str, Any]) -> bool:
    """Whether an example stands somewhere in it."""
    while "$ref" in schema:
        schema = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    parts = [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), schema.get("items")]
    return bool(schema.get("examples")) or any(exemplified(part) for part in parts if isinstance(part, dict))


# Answers with nothing in them to show: what WebUI has and modelshelf does not, and what is only done.
BARE = re.compile(r".* (/healthz|/readyz|/sdapi/v1/(interrupt|skip|refresh-.*|scripts|memory|embeddings|cmd-flags|upscalers|sd-vae)"
                  r"|/sdapi/v1/(hypernetworks|face-restorers|latent-upscale-modes|realesrgan-models|prompt-styles))")  # fmt: skip


@pytest.mark.parametrize("name", [name for name in OPERATIONS if not BARE.fullmatch(name)])
def test_every_answer_has_an_example(name: str) -> None:
    for status, answer in OPERATIONS[name]["responses"].items():
        content = answer.get("content", {}).get("application/json")
        assert not status.startswith("2") or not content or exemplified(content["schema"])


@pytest.mark.slow
def test_a_live_service_keeps_it(tmp_path: Path) -> None:
    with LoopbackHub(STARTER) as hub:
        manager = Manager(Settings(root=tmp_path / "root", hub_endpoint=hub.endpoint, allowed_networks=NETWORK))
        list(manager.install_starter())
        manager.close()
        with running_service(tmp_path / "root", hub.endpoint, **QUICK) as client:
            command = [
                *(Path(sys.executable).with_name("st"), "run", f"{client.base_url}/openapi.json"),
                *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--max-examples", "3"),
                *("--continue-on-failure", "--warnings", "off", "--request-timeout", "30", "--no-color"),
            ]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
