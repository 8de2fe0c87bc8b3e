"""By keyboard alone, from one control to the next as Tab leads: a picture from the shelf to its download, and an install."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.demo.strangers import sd15_lora, write
from tests.hub import Fault
from tests.page.stand import Stand, remarked
from tests.page.test_generate import LOADING

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MOST_STOPS = 200  # more than any view here has


def reach(page: Page, control: Locator, key: str = "Tab") -> None:
    """Press `key` until the control has the focus."""
    expect(control).to_be_visible()
    passed = []
    for _ in range(MOST_STOPS):
        page.keyboard.press(key)
        if control.evaluate("control => control === document.activeElement"):
            expect(control).to_be_in_viewport()
            return
        passed.append(page.evaluate("document.activeElement.outerHTML.slice(0, 80)"))
    pytest.fail(f"{key} does not lead to {control}: {passed}")


def press(page: Page, control: Locator, key: str = "Tab") -> None:
    reach(page, control, key)
    page.keyboard.press("Enter")


def test_from_the_shelf_to_a_downloaded_picture(page: Page, stand: Stand, tmp_path: Path) -> None:
    write(stand.hub.root / "somebody/another/another.safetensors", remarked("starter-base/starter-base.safetensors"))
    stand.install("somebody/another")
    page.goto("/")
    expect(page.locator(".card").first).to_be_visible()
    press(page, page.get_by_role("link", name="Generate", exact=True))
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.get_by_label("Steps", exact=True)).not_to_have_value("")
    checkpoint = page.get_by_label("Checkpoint")
    expect(checkpoint.locator("option:checked")).to_have_text(re.compile("^another"))
    reach(page, checkpoint)
    page.keyboard.type("starter-base")
    expect(checkpoint.locator("option:checked")).to_have_text(re.compile("^starter-base"))

    press(page, page.locator(".picker summary"))
    expect(page.get_by_label("Search the LoRAs that fit")).to_be_focused()
    page.keyboard.type("outl")
    expect(page.locator(".offers li")).to_have_count(1)
    press(page, page.locator(".offers").get_by_role("button", name="starter-outline-lora"))
    expect(page.locator(".picker summary")).to_be_focused()
    slider = page.get_by_role("slider", name="Weight of starter-outline-lora")
    expect(slider).to_have_value("0.75")
    reach(page, slider, "Shift+Tab")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".chosen .provenance")).to_contain_text("your choice")
    expect(slider).to_have_value("0.8")

    reach(page, page.get_by_label("Prompt", exact=True), "Shift+Tab")
    page.keyboard.type("a red circle, outline style")
    press(page, page.get_by_role("button", name="Generate", exact=True))
    expect(page.locator(".made")).to_have_count(1, timeout=LOADING)
    press(page, page.get_by_role("button", name="Look closer"))
    with page.expect_download() as downloading:
        press(page, page.get_by_role("dialog").get_by_role("link", name="Download"))
    downloading.value.save_as(tmp_path / "made.png")
    told = Image.open(tmp_path / "made.png").text["parameters"]  # type: ignore[attr-defined]
    assert told.startswith("a red circle, outline style <lora:starter-outline-lora:0.8>")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Look closer")).to_be_focused()


def test_an_install_from_a_pasted_address_to_its_end(page: Page, stand: Stand) -> None:
    whole = sd15_lora(rank=112)
    write(stand.hub.root / "somebody/typed/typed.safetensors", whole)
    fault = stand.hub.faults["somebody/typed/typed.safetensors"] = Fault(bytes_per_second=len(whole) // 20)
    page.goto("/")
    expect(page.locator(".card").first).to_be_visible()
    press(page, page.get_by_role("link", name="Install", exact=True))
    address = page.get_by_label("Address of a model")
    reach(page, address)
    page.evaluate("navigator.clipboard.writeText('https://huggingface.co/somebody/typed')")
    page.keyboard.press("Control+v")
    page.keyboard.press("Enter")
    press(page, page.locator(".found").get_by_role("button", name="Install", exact=True))
    expect(address).to_be_focused()
    row = page.locator(".job").filter(has=page.get_by_text("hf://somebody/typed", exact=True))
    expect(row.locator(".state")).to_have_text("downloading")
    press(page, row.get_by_role("button", name="Pause"))
    expect(row.get_by_role("button", name="Resume")).to_be_focused()
    fault.bytes_per_second = None
    page.keyboard.press("Enter")
    expect(row.locator(".state")).to_have_text("installed")
    expect(row.get_by_role("link", name="Show")).to_be_focused()
    press(page, row.get_by_role("button", name="Forget"))
    expect(row).to_have_count(0)
    expect(page.get_by_role("heading", name="Installs")).to_be_focused()
