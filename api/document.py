"""The OpenAPI document: what FastAPI gathers from the routes, and what is true of all of them."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.examples import example
from api.problems import EVERYWHERE, raises
from registry.errors import RequestTooLarge

TAGS = {
    "models": "What is on the shelf, and what fits what.",
    "installs": "Sources: what they are, and bringing them onto the shelf.",
    "scans": "Folders whose models are registered where they lie.",
    "upkeep": "Verifying, hashing, updating and loading many models; what is there twice, and what belongs to nothing.",
    "generations": "Pictures, the plan that makes them, and following how they are made.",
    "residency": "What is loaded, and where.",
    "service": "For whoever runs it.",
    "OpenAI's API": "For clients that speak it.",
    "WebUI's API": "For clients of Stable Diffusion WebUI (A1111, Forge, SD.Next).",
}
_HEADERS = {
    "X-Request-ID": "As in problems and in the log; a request's own is kept.",
    "Retry-After": "Seconds until it is worth another try.",
    "Location": "Where the job is to be watched.",
}


def describe(app: FastAPI) -> dict[str, Any]:
    """Made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
            tags=[{"name": name, "description": text} for name, text in TAGS.items()],
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        )
        shared = {
            HTTPStatus(int(status)).phrase.replace(" ", ""): _with_headers(str(status), answer)
            for status, answer in raises(*EVERYWHERE, RequestTooLarge).items()
        }
        for operations in document["paths"].values():
            for operation in operations.values():
                _complete(operation, shared)
                _exemplify(operation, document["components"]["schemas"])
        headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()}
        document["components"] |= {"responses": shared, "headers": headers}
        app.openapi_schema = document
    return app.openapi_schema


def _complete(operation: dict[str, Any], shared: dict[str, dict[str, Any]]) -> None:
    if "security" in operation:  # scopes that stand together are all asked for; here one of them is enough
        operation["security"] = [
            {way: [scope]} for told in operation["security"] for way, scopes in told.items() for scope in scopes
        ]
    answers = operation["responses"]
    if "requestBody" in operation:
        answers |= {str(status): told for status, told in raises(RequestTooLarge).items()}
    names = {json.dumps(answer): name for name, answer in shared.items()}
    for status, answer in sorted(answers.items()):
        answers.pop(status)  # and in again, so that they stand in order
        name = names.get(json.dumps(_with_headers(status, answer)))
        answers[status] = {"$ref": f"#/components/responses/{name}"} if name else _with_headers(status, answer)


def _exemplify(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Each answer that succeeds is shown as a whole. Pictures are not: JSON has no bytes."""
    for status, answer in operation["responses"].items():
        for content in answer.get("content", {}).values() if status.startswith("2") else ():
            if "example" not in content and content["schema"].get("format") != "binary":
                content["example"] = example(content["schema"], schemas)


def _with_headers(status: str, answer: dict[str, Any]) -> dict[str, Any]:
    names = ["X-Request-ID", *(["Retry-After"] if status == "429" else []), *(["Location"] if status == "202" else [])]
    told = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return {**answer, "headers": told}
