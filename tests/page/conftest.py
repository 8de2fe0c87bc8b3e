"""A service, a browser, and a page that forgives no error in its console."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, expect

from tests.page.browser import HOW_TO_INSTALL, chromium, running_browser
from tests.page.stand import Stand, running_stand

ARTEFACTS = Path(__file__).resolve().parents[2] / "test-output/page"
PATIENCE = 60_000  # milliseconds: a shared machine may be slow, and nothing here is about time
REFUSAL = re.compile(r"the server responded with a status of 4\d\d|net::ERR_INTERNET_DISCONNECTED")
WIDE = {"width": 1280, "height": 860}

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with running_stand(tmp_path_factory.mktemp("stand")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For a module, since Playwright keeps an event loop in this thread as long as it runs, in which other tests could start none."""
    if chromium() is None:
        pytest.skip(HOW_TO_INSTALL)
    with running_browser() as running:
        yield running


class Console:
    """What the page said. A refused request (4xx) is logged by the browser itself: a test that provokes one says so beforehand."""

    def __init__(self, page: Page) -> None:
        self.refusals = False
        self.errors: list[str] = []
        page.on("console", self._logged)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))

    def _logged(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not (self.refusals and REFUSAL.search(message.text)):
            self.errors.append(f"{message.type}: {message.text}")


@pytest.fixture
def console() -> list[Console]:
    """Filled by `page`."""
    return []


@pytest.fixture
def page(browser: Browser, stand: Stand, console: list[Console], request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh profile on the service's page; leaves a screenshot, and fails the test for an error in the console."""
    context = browser.new_context(base_url=stand.address, viewport=WIDE, reduced_motion="reduce")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(PATIENCE)
    made = context.new_page()
    console.append(Console(made))
    yield made
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    try:
        made.screenshot(path=ARTEFACTS / f"{request.node.name}.png")
    except Error as error:
        console[0].errors.append(f"no screenshot: {error}")
    context.close()
    assert console[0].errors == []
