"""A service, a browser, and a page that forgives no error in its console."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, expect

from tests.page.browser import HOW_TO_INSTALL, chromium, running_browser
from tests.page.stand import Stand, running_stand

ARTEFACTS = Path(__file__).resolve().parents[2] / "test-output/page"
PATIENCE = 60_000  # milliseconds: a shared machine may be slow, and nothing here is about time
UNANSWERED = re.compile(r"^Failed to load resource: net::(ERR_\w+)")
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
    """What the page said. A request that nobody answers is logged by the browser itself, whatever the page makes of it: a test that
    provokes one names it beforehand, exactly, and must see it."""

    def __init__(self, page: Page) -> None:
        self._errors: list[str] = []
        self._expected, self._seen = set[str](), set[str]()
        page.on("console", self._logged)
        page.on("pageerror", lambda error: self._errors.append(f"uncaught: {error}"))

    def expect(self, *unanswered: str) -> None:
        """Each the network's error and a path: "ERR_INTERNET_DISCONNECTED /v1/plans"."""
        self._expected |= set(unanswered)

    @property
    def errors(self) -> list[str]:
        """What was said, and what was expected and was not."""
        return [*self._errors, *(f"did not come: {missing}" for missing in sorted(self._expected - self._seen))]

    def failed(self, error: str) -> None:
        self._errors.append(error)

    def _logged(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        unanswered = UNANSWERED.search(message.text)
        told = f"{unanswered[1]} {urlsplit(message.location['url']).path}" if unanswered else ""
        if told in self._expected:
            self._seen.add(told)
        else:
            self._errors.append(f"{message.type}: {message.text} {told}")


@pytest.fixture
def console() -> list[Console]:
    """Filled by `page`."""
    return []


@pytest.fixture
def page(browser: Browser, stand: Stand, console: list[Console], request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh profile on the service's page; leaves a screenshot and the shelf as it was; an error in the console fails the test."""
    shelf = stand.models()
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
        console[0].failed(f"no screenshot: {error}")
    context.close()
    stand.forget(stand.models() - shelf)
    assert console[0].errors == []
