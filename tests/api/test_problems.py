"""Every error has a stable code and a status, and is answered as problem+json."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from api.problems import STATUS, status_of
from registry import errors
from registry.errors import ModelshelfError
from tests.api.errors_page import PAGE, page


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


def test_the_table_names_only_errors_of_the_tree() -> None:
    assert set(STATUS) <= set(tree())
