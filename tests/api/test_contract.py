"""The OpenAPI document: complete, reviewed, and kept by a live service, which schemathesis asks whatever it can think of."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from api.problems import status_of
from registry.errors import every_error
from registry.manager import Manager
from registry.settings import Settings
from tests.api.openapi import SNAPSHOT, document
from tests.conftest import STARTER
from tests.hub import LoopbackHub
from tests.loopback import NETWORK
from tests.service import running_service

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"),
    *("response_headers_conformance", "unsupported_method", "allow_header_conformance", "negative_data_rejection"),
)
_HEADERS = (
    "A header that nobody knows is passed over (RFC 9110, 5.1), and to schemathesis it is wrong where others are named."
)
ACCEPTING = {
    "GET /v1/installs/{install_id}/events": _HEADERS,
    "GET /v1/scans/{scan_id}/events": _HEADERS,
    "GET /v1/tasks/{task_id}/events": _HEADERS,
    "GET /v1/generations/{generation_id}/events": _HEADERS,
    "POST /v1/generations": f"{_HEADERS} Its body is that of POST /v1/plans.",
    "GET /sdapi/v1/progress": "WebUI passes over query parameters that it does not know, and so do its clients' servers.",
}
"""Operations that may take what is wrong by their schema (negative_data_rejection), and why."""
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


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is one of a schema of the document's."""
    whole = {**schema, "components": document()["components"]}
    return bool(jsonschema_rs.Draft202012Validator(whole, validate_formats=True).is_valid(value))


PICTURES = {"image/png", "image/jpeg", "image/webp"}  # an example is JSON, which has no bytes
ANSWERS = [
    (name, status, kind)
    for name, operation in OPERATIONS.items()
    for status, answer in operation["responses"].items()
    if status.startswith("2")
    for kind in answer.get("content", {})
]


@pytest.mark.parametrize(("name", "status", "kind"), ANSWERS)
def test_every_answer_has_an_example_that_fits_its_schema(name: str, status: str, kind: str) -> None:
    content = OPERATIONS[name]["responses"][status]["content"][kind]
    if kind in PICTURES:
        assert content == {"schema": {"type": "string", "format": "binary"}}
    elif kind == "text/event-stream":
        assert content["example"]
        for event in content["example"]:
            assert fits(event, content["itemSchema"])
            assert isinstance(json.loads(event["data"]), dict)
    else:
        assert fits(content["example"], content["schema"])


def test_an_example_that_does_not_fit_is_found() -> None:
    model = {"$ref": "#/components/schemas/ModelOut"}
    right = OPERATIONS["PATCH /v1/models/{model_id}"]["responses"]["200"]["content"]["application/json"]["example"]
    assert fits(right, model)
    assert not fits({**right, "size": "large"}, model)
    assert not fits({**right, "created_at": "yesterday"}, model)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_error_is_told_by_its_codes(name: str) -> None:
    shared, known = document()["components"]["responses"], {cls.code: cls for cls in every_error()}
    for status, answer in OPERATIONS[name]["responses"].items():
        if int(status) < 400:
            continue
        told = shared[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
        content = told["content"]["application/problem+json"]
        assert content["examples"]
        for code, shown in content["examples"].items():
            assert fits(shown["value"], content["schema"])
            assert (shown["value"]["code"], shown["value"]["status"]) == (code, int(status))
            assert status_of(known[code]) == int(status)
            assert f"`{code}`" in told["description"]


def settings_of_schemathesis() -> str:
    """CHECKS everywhere, but for what is ACCEPTING."""
    assert ACCEPTING.keys() <= OPERATIONS.keys()
    asked = "".join(f"{name}.enabled = true\n" for name in CHECKS)
    spared = (
        f'[[operations]]\ninclude-name = "{name}"\nchecks.negative_data_rejection.enabled = false\n'
        for name in ACCEPTING
    )
    return "\n".join((f"[checks]\nenabled = false\n{asked}", *spared))


@pytest.mark.slow
def test_a_live_service_keeps_it(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    seed = str(request.config.getoption("randomly_seed"))  # the order of the tests is drawn from it too
    with LoopbackHub(STARTER) as hub:
        manager = Manager(Settings(root=tmp_path / "root", hub_endpoint=hub.endpoint, allowed_networks=NETWORK))
        list(manager.install_starter())
        manager.close()
        with running_service(tmp_path / "root", hub.endpoint, **QUICK) as client:
            config = tmp_path / "schemathesis.toml"
            config.write_text(settings_of_schemathesis())
            command = [
                *(
                    Path(sys.executable).with_name("st"),
                    "--config-file",
                    config,
                    "run",
                    f"{client.base_url}/openapi.json",
                ),
                *("--phases", "examples,coverage,fuzzing", "--max-examples", "3", "--seed", seed),
                *("--continue-on-failure", "--warnings", "off", "--request-timeout", "30", "--no-color"),
            ]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
