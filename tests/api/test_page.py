"""The page's files: what is served, and under which policy. What they do is tested in tests/page, in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.routes.page import FOLDER
from tests.api.conftest import Starter

FILES = sorted(p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*") if p.is_file())


@pytest.mark.parametrize("path", ["/", "/docs", *(f"/page/{name}" for name in FILES)])
def test_every_file_comes_with_the_policy_that_forbids_foreign_and_inline_scripts(starter: Starter, path: str) -> None:
    answer = starter.http.get(path)
    assert answer.status_code == 200
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert policy["require-trusted-types-for"] == "'script'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/nothing", "/openapi.json", "/nothing", "/redoc"])
def test_every_other_answer_comes_with_it_too(starter: Starter, path: str) -> None:
    answer = starter.http.get(path)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_file_that_did_not_change_is_not_sent_again(starter: Starter) -> None:
    etag = starter.http.get("/page/app.js").headers["etag"]
    assert starter.http.get("/page/app.js", headers={"If-None-Match": etag}).status_code == 304


@pytest.mark.parametrize("path", ["/page/nothing.js", "/page/..%2fapp.py", "/page/%2e%2e/app.py", "/page/"])
def test_nothing_beside_the_page_is_served(starter: Starter, path: str) -> None:
    answer = starter.http.get(path)
    assert answer.status_code in (404, 405)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", FILES)
def test_the_files_need_no_other_host_and_write_no_markup(name: str) -> None:
    text = (FOLDER / name).read_text()
    foreign = re.findall(r"""(?:src|href|import|from|url)\s*[=(]?\s*["'(]?(?:https?:)?//[^\s"')]+""", text)
    assert foreign == []
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|style=", text)


def test_every_module_that_is_imported_is_there() -> None:
    for path in FOLDER.glob("*.js"):
        for imported in re.findall(r'from "\./([^"]+)"', path.read_text()):
            assert (FOLDER / imported).is_file(), f"{path.name} imports {imported}"
    for page in FOLDER.glob("*.html"):
        assert {Path(p).name for p in re.findall(r'"page/([^"]+)"', page.read_text())} <= set(FILES)
