"""Every error has a stable code and a status, and is answered as problem+json."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.problems import STATUS, status_of
from registry import errors
from registry.errors import ModelshelfError
from registry.manager import Manager
from tests.api.errors_page import PAGE, page
from tests.conftest import STARTER


def tree(cls: type[ModelshelfError] = ModelshelfError) -> Iterator[type[ModelshelfError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("cls", list(tree()), ids=lambda c: c.__name__)
def test_every_error_has_a_code_of_its_own_and_a_fitting_status(cls: type[ModelshelfError]) -> None:
    assert re.fullmatch(r"[a-z_]+", cls.code)
    assert [c.__name__ for c in tree() if c.code == cls.code] == [cls.__name__]
    assert 400 <= status_of(cls("what happened")) < 600


@pytest.mark.parametrize(
    ("cls", "status"),
    [
        (errors.InvalidSource, 422),
        (errors.ModelNotFound, 404),
        (errors.RepositoryNotFound, 404),
        (errors.GatedRepository, 403),
        (errors.UnusableFile, 415),
        (errors.DigestMismatch, 502),
        (errors.StorageFull, 507),
    ],
)
def test_the_nearest_class_in_the_tree_decides(cls: type[ModelshelfError], status: int) -> None:
    assert status_of(cls("what happened")) == status


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    drawn = dict(re.findall(r"(?:├──|└──) (\w+) {2,}([a-z_]+)  ", errors.__doc__ or ""))
    assert drawn | {"ModelshelfError": "error"} == {cls.__name__: cls.code for cls in tree()}
    assert errors.meanings().keys() == {cls.code for cls in tree()}


def test_every_code_is_documented_as_it_is() -> None:
    assert PAGE.read_text() == page(), "`python -m tests.api.errors_page` writes it anew"


@pytest.mark.parametrize(
    ("content", "field", "message"),
    [
        (b"{bad", "body", "not JSON at character 1: Expecting property name enclosed in double quotes"),
        (b"", "body", "Field required"),
        (b"[]", "body", "Input should be a valid dictionary or object to extract fields from"),
        (b'{"source": 1}', "source", "Input should be a valid string"),
        (b'{"source": "x", "place": "moon"}', "place", "Input should be 'copy', 'move' or 'in_place'"),
    ],
)
def test_of_a_body_the_field_is_named_that_is_wrong(manager: Manager, content: bytes, field: str, message: str) -> None:
    http = TestClient(create_app(manager), base_url="http://127.0.0.1")
    problem = http.post("/v1/installs", content=content, headers={"Content-Type": "application/json"}).json()
    assert problem["errors"] == [{"field": field, "message": message}]
    assert problem["detail"] == f"{field}: {message}"


@pytest.mark.parametrize("parameter", ["family", "tag", "q", "digest", "sort", "limit", "cursor"])
@pytest.mark.parametrize("value", ["\0", "x" * 5000])
def test_of_a_list_the_parameter_is_named_that_is_wrong(manager: Manager, parameter: str, value: str) -> None:
    http = TestClient(create_app(manager), base_url="http://127.0.0.1")
    problem = http.get("/v1/models", params={parameter: value}).json()
    named = problem["errors"][0]["field"] if "errors" in problem else problem["facts"]["field"]
    assert (problem["code"], named) == ("invalid_request", parameter)
    assert problem["detail"].startswith(f"{parameter}")


def test_one_that_lists_what_fits_is_named_too(manager: Manager) -> None:
    manager.install(str(STARTER / "modelshelf/starter-outline-lora"))
    http = TestClient(create_app(manager), base_url="http://127.0.0.1")
    problem = http.get("/v1/models", params={"compatible_with": "starter-outline-lora"}).json()
    assert (problem["code"], problem["facts"]["field"]) == ("invalid_request", "compatible_with")


def test_the_table_names_only_errors_of_the_tree() -> None:
    assert set(STATUS) <= set(tree())
