"""An empty shelf, from elsewhere: the browser asks for the token, the page says what to do, and a weak token is told in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from registry.manager import Manager
from registry.scopes import Scope
from registry.settings import Settings
from tests.page.conftest import ARTEFACTS, PATIENCE, WIDE, Console
from tests.service import running_service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Guarded(NamedTuple):
    """An address that asks for a token, with one for everything and one for looking only."""

    address: str
    full: str
    weak: str


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    root: Path = tmp_path_factory.mktemp("guarded")
    manager = Manager(Settings(root=root))
    full, weak = manager.tokens.create("full"), manager.tokens.create("weak", [Scope.READ])
    manager.close()
    with running_service(root, "http://127.0.0.1:9", MODELSHELF_HOST="0.0.0.0") as client:
        yield Guarded(f"http://127.0.0.1:{client.base_url.port}", full, weak)


def opened(browser: Browser, guarded: Guarded, token: str) -> Page:
    """In the browser's own question the token is the password; the user's name may be any."""
    context = browser.new_context(
        base_url=guarded.address,
        viewport=WIDE,
        reduced_motion="reduce",
        http_credentials={"username": "me", "password": token},
    )
    context.set_default_timeout(PATIENCE)
    return context.new_page()


def test_a_newcomer_installs_the_starter_with_one_click(browser: Browser, guarded: Guarded) -> None:
    page = opened(browser, guarded, guarded.full)
    console = Console(page)
    page.goto("/")
    expect(page.get_by_role("heading", name="The shelf is empty")).to_be_visible()
    assert [v["id"] for v in Axe().run(page).response["violations"]] == []
    page.screenshot(path=ARTEFACTS / "empty-shelf.png")
    page.goto("/#/generate")
    expect(page.get_by_role("button", name="Generate", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Install the starter models").click()
    expect(page.locator('.job[data-state="installed"]')).to_have_count(4)
    page.get_by_role("link", name="Shelf", exact=True).click()
    expect(page.locator(".card")).to_have_count(4)
    page.get_by_role("link", name="Generate", exact=True).click()
    expect(page.get_by_role("button", name="Generate", exact=True)).to_be_enabled()
    expect(page.get_by_text("There is no checkpoint yet.")).to_have_count(0)
    page.context.close()
    assert console.errors == []

    page = opened(browser, guarded, guarded.weak)
    console = Console(page)
    page.goto("/")
    page.get_by_role("link", name="starter-heart", exact=True).click()
    expect(page.get_by_label("Notes")).to_be_visible()
    page.get_by_label("Notes").fill("mine")
    page.get_by_label("Notes").blur()
    expect(page.get_by_role("alert")).to_contain_text("manage")
    page.context.close()
    assert console.errors == []
