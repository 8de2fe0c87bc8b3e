"""axe-core on every view, light and dark, wide and narrow."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.page.conftest import ARTEFACTS
from tests.page.stand import Stand

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SIZES = {"wide": (1280, 860), "narrow": (360, 740)}  # pixels; 360 is the narrowest telephone in common use


def show_shelf(page: Page, _: Stand) -> None:
    page.goto("/#/shelf")
    expect(page.locator(".card").first).to_be_visible()


def show_list(page: Page, stand: Stand) -> None:
    show_shelf(page, stand)
    page.get_by_role("button", name="List").click()


def show_model(page: Page, stand: Stand) -> None:
    page.goto(f"/#/model/{stand.get('/v1/models/starter-lcm-lora').json()['id']}")
    expect(page.locator(".verdicts li")).to_have_count(1)


def show_install(page: Page, _: Stand) -> None:
    page.goto("/#/install?source=somebody/sd15")
    expect(page.locator(".found")).to_be_visible()
    expect(page.locator(".job").first).to_be_visible()


def show_generate(page: Page, stand: Stand) -> None:
    page.goto(f"/#/generate?use={stand.get('/v1/models/starter-lcm-lora').json()['id']}")
    expect(page.locator(".told")).to_contain_text("starter-lcm-lora added")
    page.locator(".picker summary").click()
    page.locator(".offers").get_by_role("button", name="starter-outline-lora").click()
    expect(page.locator(".told")).to_contain_text("starter-outline-lora added")
    page.locator(".picker summary").click()


VIEWS = (show_shelf, show_list, show_model, show_install, show_generate)


@pytest.mark.parametrize("size", SIZES)
def test_no_view_has_a_violation_in_light_or_dark(page: Page, stand: Stand, size: str) -> None:
    """Serious and critical ones are what people cannot work around; the page has none of the lesser ones either."""
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    for view in VIEWS:
        page.goto("about:blank")
        view(page, stand)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            found = Axe().run(page).response["violations"]
            page.screenshot(path=ARTEFACTS / f"{view.__name__[5:]}-{size}-{scheme}.png", full_page=True)
            assert [(v["id"], v["impact"], [n["html"][:200] for n in v["nodes"]]) for v in found] == [], (
                view.__name__,
                scheme,
            )
        wide = page.evaluate(
            """[...document.querySelectorAll("main *")]
               .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, .segments, .card"))
               .map(e => e.outerHTML.slice(0, 150))"""
        )
        assert wide == [], f"{view.__name__} has elements that reach beyond the window"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_theme_is_chosen_and_remembered(page: Page) -> None:
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.emulate_media(color_scheme="light")
    page.goto("/")
    light = background()
    toggle = page.locator("#theme")
    expect(toggle).to_have_text("Theme: system")
    toggle.click()
    expect(toggle).to_have_text("Theme: light")
    toggle.click()
    expect(toggle).to_have_text("Theme: dark")
    dark = background()
    assert dark != light
    page.reload()
    assert background() == dark
    page.locator("#theme").click()
    assert background() == light
    page.emulate_media(color_scheme="dark")
    assert background() == dark


def test_the_first_tab_skips_the_bar(page: Page) -> None:
    page.goto("/")
    expect(page.locator(".card").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("searchbox")).to_be_focused()
