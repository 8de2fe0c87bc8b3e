"""Ten thousand models: the document stays small, the end is reached, search finds the last one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from registry.catalog import Entry
from registry.manager import Manager
from registry.models import Model, Provenance, Trigger, computed
from registry.settings import Settings
from tests.page.conftest import PATIENCE, WIDE, Console
from tests.page.stand import HOSTILE
from tests.service import running_service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COUNT = 10_000
MOST_CARDS = 150  # in the document at once: those in sight, and some rows around them
FAMILIES = ("sd-1", "sdxl", "flux-1")


def model(number: int) -> Model:
    """The first one has markup for a name."""
    name = HOSTILE if number == 0 else f"lora-{number:05}"
    return Model(
        name=name,
        kind="lora" if number % 10 else "checkpoint",
        family=FAMILIES[number % 3],
        format="safetensors",
        path=f"lora/{number}.safetensors",
        size=1_000_000 + number,
        digests=computed(blake3=f"{number:064x}"),
        sources=(Provenance(f"hf://somebody/lora-{number}"),),
        trigger_words=(Trigger(f"trigger {number}", "model card"),),
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root: Path = tmp_path_factory.mktemp("many")
    manager = Manager(Settings(root=root))
    manager.catalog.add_many(Entry(model(number), {}) for number in range(COUNT))
    manager.close()
    with running_service(root, "http://127.0.0.1:9") as client:
        yield str(client.base_url)


@pytest.fixture
def crowded(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(base_url=address, viewport=WIDE, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    console = Console(page)
    yield page
    context.close()
    assert console.errors == []


def test_ten_thousand_models_scroll_to_the_end_and_are_searched(crowded: Page) -> None:
    page, cards = crowded, crowded.locator(".card")
    page.goto("/")
    expect(page.get_by_role("button", name="All 10,000")).to_be_visible()
    expect(cards.first).to_contain_text(HOSTILE)
    assert page.evaluate("window.attacked") is None
    assert cards.count() < MOST_CARDS
    last = page.locator(".card-name", has_text="lora-09999")
    # Page by page, as far as there is more: every page is asked for when the end of the last comes into sight.
    most = page.evaluate(
        """async (last) => {
          let most = 0;
          while (!document.querySelector(`.card-name a[title="${last}"]`)) {
            scrollTo(0, document.body.scrollHeight);
            await new Promise(requestAnimationFrame);
            most = Math.max(most, document.querySelectorAll(".card").length);
          }
          return most;
        }""",
        "lora-09999",
    )
    assert most < MOST_CARDS
    expect(last).to_be_visible()
    assert page.locator(".grid-cell").last.get_attribute("aria-posinset") == str(COUNT)
    page.keyboard.press("Home")
    expect(page.locator(".card-name", has_text="lora-00001")).to_be_visible()
    assert cards.count() < MOST_CARDS

    page.get_by_role("searchbox").fill("trigger 9998")
    expect(cards).to_have_count(1)
    expect(cards).to_contain_text("lora-09998")
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Checkpoints 1,000").click()
    page.get_by_label("Family").select_option("flux-1")
    expect(cards.first).to_contain_text("Checkpoint")
    assert set(page.locator(".family").all_inner_texts()) == {"flux-1"}


def test_the_keyboard_walks_through_rows_that_are_not_there_yet(crowded: Page) -> None:
    page = crowded
    page.goto("/")
    expect(page.locator(".card").first).to_be_visible()
    page.get_by_role("button", name="List").click()
    page.locator(".card-name a").first.focus()
    for _ in range(3 * 60):  # name, trigger, use: sixty rows, three times what is in sight
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.grid-cell').getAttribute('aria-posinset')") == "61"
    expect(page.locator(".grid-cell:focus-within .card-name")).to_be_in_viewport()
