"""A real browser, Debian's Chromium, steered by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome-stable")
HOW_TO_INSTALL = "the page's tests need Chromium: apt-get install chromium (Debian, Ubuntu), as root"


def chromium() -> str | None:
    """The browser's path, None when there is none. Playwright's own download would need another host than the package index."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def running_browser() -> Iterator[Browser]:
    # --no-sandbox: CI runs as root in a container, where Chromium's sandbox cannot start; the page under test is our own.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), headless=True, args=["--headless", "--no-sandbox"]
        )
        yield browser
        browser.close()
