"""The interface's description at /docs, in a browser, without any other host."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def assert_accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_operations_are_found_and_lead_to_their_schemas(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/docs")
    generate = (
        page.locator("details", has=page.locator("summary", has_text="/v1/generations ")).filter(has_text="POST").first
    )
    expect(generate).to_be_visible()
    assert_accessible(page)
    page.get_by_role("searchbox").fill("post /v1/generations")
    expect(page.locator("summary", has_text="/v1/models").first).to_be_hidden()
    generate.locator("summary").click()
    assert_accessible(page)
    page.get_by_role("searchbox").fill("")
    schema = generate.locator("a[href^='#schema-']").first
    name = schema.inner_text()
    schema.click()
    expect(page.locator(f"#schema-{name}")).to_have_attribute("open", "")
    assert {url.split("/")[2] for url in asked} == {page.url.split("/")[2]}
