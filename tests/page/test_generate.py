"""Generate: what fits is offered, what is recommended is set and marked, and pictures come back with all that made them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect

from tests.page.stand import Stand

LOADING = 400_000  # milliseconds: the first picture waits for torch and the weights, on a machine that may be busy
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SAMPLER = ("Scheduler", "Steps", "CFG")


def sampler(page: Page) -> list[str]:
    return [page.get_by_label(name, exact=True).input_value() for name in SAMPLER]


def origin(page: Page, name: str) -> Locator:
    return page.locator(f"#sampler-{name.lower()}-origin")


def add(page: Page, name: str) -> Locator:
    """A LoRA from those that are offered; returns its row."""
    page.locator(".picker summary").click()
    page.locator(".offers").get_by_role("button", name=name).click()
    return page.locator(".chosen", has_text=name)


def settled(page: Page, *, generate: bool = True) -> None:
    expect(page.get_by_label("Steps", exact=True)).not_to_have_value("")
    if generate:
        expect(page.get_by_role("button", name="Generate", exact=True)).to_be_enabled()


def draw(page: Page) -> None:
    made = page.locator(".made").count()
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator(".made")).to_have_count(made + 1, timeout=LOADING)
    settled(page)


def test_only_what_fits_is_offered_at_its_recommended_weight(page: Page, stand: Stand) -> None:
    outline = stand.get("/v1/models/starter-outline-lora").json()["id"]
    stand.patch(f"/v1/models/{outline}", json={"weight_min": 0.5, "weight_max": 1.0}).raise_for_status()
    page.goto("/#/generate")
    settled(page)
    page.locator(".picker summary").click()
    offered = page.locator(".offers li")
    expect(offered.first).to_be_visible()
    names = {text.split("\n")[0] for text in offered.all_inner_texts()}
    fitting = stand.get("/v1/models/starter-base/compatible-loras").json()["loras"]
    assert names == {v["model"]["name"] for v in fitting}
    assert "sd15" not in names
    page.get_by_label("Search the LoRAs that fit").fill("outl")
    expect(offered).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".picker summary")).to_be_focused()

    row = add(page, "starter-outline-lora")
    slider = row.get_by_role("slider")
    expect(slider).to_have_value("0.75")
    expect(row.locator(".provenance")).to_have_text(
        "recommended by model card of starter-outline-lora: “Recommended weight: 0.75.”; works from 0.5 to 1"
    )
    mark, band = (row.locator(f".range-{part}").bounding_box() for part in ("mark", "band"))
    track = slider.bounding_box()
    assert mark
    assert band
    assert track
    usable = track["width"] - 16
    assert mark["x"] + 1 - track["x"] - 8 == pytest.approx(usable * 0.75 / 1.5, abs=1.5)
    assert band["x"] - track["x"] - 8 == pytest.approx(usable * 0.5 / 1.5, abs=1.5)
    assert band["width"] == pytest.approx(usable * 0.5 / 1.5, abs=1.5)

    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(row.locator(".provenance")).to_contain_text("your choice; 0.75 is recommended by model card")
    expect(row.get_by_role("spinbutton")).to_have_value("0.8")
    row.get_by_role("button", name="Take the recommended one").click()
    expect(slider).to_have_value("0.75")
    stand.patch(f"/v1/models/{outline}", json={"weight_min": None, "weight_max": None}).raise_for_status()


def test_the_offers_stay_under_the_pointer_while_the_answers_come(page: Page, stand: Stand) -> None:
    """What came later pushed them down between the mouse's going down and its going up, and the click was lost."""
    held: list[Route] = []
    page.route(re.compile("/v1/.*(compatible-loras|plans)"), lambda route: held.append(route))

    def release(name: str) -> None:
        while not any(name in route.request.url for route in held):
            page.wait_for_timeout(10)
        while held:
            held.pop().continue_()

    page.goto(f"/#/generate?use={stand.get('/v1/models/starter-lcm-lora').json()['id']}")
    summary = page.locator(".picker summary")
    expect(page.get_by_label("Checkpoint").locator("option")).not_to_have_count(0)
    expect(summary).to_be_hidden()
    release("compatible-loras")
    expect(summary).to_be_visible()
    before = summary.bounding_box()
    assert before
    page.mouse.move(before["x"] + 20, before["y"] + 10)
    page.mouse.down()
    release("plans")
    settled(page)
    expect(page.locator(".told")).to_have_text(re.compile("^starter-lcm-lora added"))
    assert summary.bounding_box() == before
    page.mouse.up()
    expect(page.locator(".offers").get_by_role("button", name="starter-outline-lora")).to_be_visible()


def test_what_is_typed_is_what_is_asked_for(page: Page) -> None:
    """At once: neither the pause after typing nor the answer to an earlier question may get in between."""
    page.goto("/#/generate")
    settled(page)
    steps = page.get_by_label("Steps", exact=True)
    page.get_by_label("Prompt", exact=True).fill("a red circle on a white background")
    with page.expect_request("**/v1/generations?*") as asked:
        page.evaluate(
            """() => {
                const steps = document.getElementById("sampler-steps");
                steps.value = "3";
                steps.dispatchEvent(new Event("input", {bubbles: true}));
                [...document.querySelectorAll("button")].find(b => b.textContent === "Generate").click();
            }"""
        )
    assert asked.value.post_data_json["steps"] == 3
    expect(steps).to_have_value("3")
    expect(page.locator(".made")).to_have_count(1, timeout=LOADING)
    expect(steps).to_have_value("3")
    expect(origin(page, "Steps")).to_contain_text("your choice")


def test_an_lcm_lora_sets_the_sampler_and_the_other_weights_and_takes_them_back(page: Page) -> None:
    page.goto("/#/generate")
    settled(page)
    other = add(page, "hostile")  # whose provider recommends no weight
    expect(other.get_by_role("slider")).to_have_value("0.75")
    before = sampler(page)
    add(page, "starter-lcm-lora")
    expect(page.get_by_label("Scheduler", exact=True)).to_have_value("lcm")
    assert sampler(page) == ["lcm", "6", "1"]
    for name in SAMPLER:
        expect(origin(page, name)).to_contain_text("recommended by model card of starter-lcm-lora")
    expect(other.get_by_role("slider")).to_have_value("0.45")
    expect(other.locator(".provenance")).to_have_text("default: LoRA guide: LoRA beside an LCM-LoRA")
    expect(page.locator(".told")).to_have_text(
        "starter-lcm-lora added. It sets: Scheduler LCM, Steps 6, CFG 1, weight of hostile 0.45."
    )
    page.get_by_label("Steps", exact=True).fill("5")
    expect(origin(page, "Steps")).to_have_text("your choice instead of 6")
    page.get_by_role("button", name="Take the recommended steps").click()
    expect(page.get_by_label("Steps", exact=True)).to_have_value("6")
    page.get_by_role("button", name="Remove starter-lcm-lora").click()
    expect(page.get_by_label("Scheduler", exact=True)).to_have_value(before[0])
    assert sampler(page) == before
    expect(other.get_by_role("slider")).to_have_value("0.75")


def test_generate_compare_reload_reuse_download(page: Page, tmp_path: Path) -> None:
    page.goto("/")
    page.get_by_role("link", name="Generate with starter-lcm-lora").click()
    expect(page.get_by_role("slider", name="Weight of starter-lcm-lora")).to_have_value("1")
    row = add(page, "starter-outline-lora")
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill("a red circle on a white background")
    expect(page.locator(".notes")).to_contain_text("was trained on “outline style”")
    row.get_by_role("button", name="Add outline style to the prompt").click()
    expect(prompt).to_have_value("a red circle on a white background, outline style")
    expect(row.get_by_role("button", name="outline style is in the prompt")).to_be_disabled()
    expect(page.locator(".notes li")).to_have_count(0)
    page.get_by_label("Seed", exact=True).fill("7")
    draw(page)
    page.get_by_label("Seed", exact=True).fill("8")
    draw(page)
    assert page.locator(".made img").evaluate_all(
        "images => Promise.all(images.map(async i => { await i.decode(); return i.naturalWidth; }))"
    ) == [64, 64]

    for seed in (7, 8):
        page.get_by_label(f"Mark picture with seed {seed} for comparing").check()
    page.get_by_role("button", name="Compare 2").click()
    dialog = page.get_by_role("dialog", name="2 pictures")
    expect(dialog.locator("tr.differs th").first).to_have_text("Seed")
    expect(dialog.get_by_role("row", name="starter-lcm-lora 1")).to_contain_text("recommended by model card")
    page.keyboard.press("Escape")

    page.reload()
    expect(page.locator(".made")).to_have_count(2)
    expect(prompt).to_have_value("a red circle on a white background, outline style")
    expect(page.get_by_role("slider")).to_have_count(2)
    page.locator(".made").filter(has_text="seed 7").get_by_role("button").click()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download").click()
    assert downloading.value.suggested_filename == "starter-base-7.png"
    downloading.value.save_as(tmp_path / "first.png")
    first = Image.open(tmp_path / "first.png")
    assert "outline style <lora:starter-lcm-lora:1> <lora:starter-outline-lora:0.75>" in first.text["parameters"]  # type: ignore[attr-defined]

    page.get_by_role("button", name="Use these settings").click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value("7")
    expect(origin(page, "Steps")).to_contain_text("your choice")
    draw(page)
    page.locator(".made").first.get_by_role("button").click()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download").click()
    assert Image.open(downloading.value.path()).tobytes() == first.tobytes()
    page.get_by_role("button", name="Discard").click()
    expect(page.locator(".made")).to_have_count(2)


def test_a_wrong_value_is_told_and_loses_nothing(page: Page) -> None:
    page.goto("/#/generate")
    settled(page)
    page.get_by_label("Prompt", exact=True).fill("a red circle")
    page.get_by_label("Steps", exact=True).fill("999")
    expect(page.get_by_role("alert")).to_contain_text("steps is 999; it must be between 1 and 150")
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("steps is 999")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a red circle")
    page.get_by_label("Steps", exact=True).fill("")
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_label("Seed", exact=True).fill("seven")
    expect(page.get_by_role("alert")).to_contain_text("seed")


def test_a_generation_is_followed_with_previews_and_cancelled_within_a_step(page: Page, stand: Stand) -> None:
    page.goto("/#/generate")
    settled(page)
    page.get_by_label("Prompt", exact=True).fill("a yellow star on a blue background")
    page.get_by_label("Steps", exact=True).fill("150")
    page.get_by_label("Pictures").fill("16")
    for side in (
        "Width",
        "Height",
    ):  # minutes of work, however fast the machine: it must not end before it is cancelled
        page.get_by_label(side, exact=True).fill("192")
    expect(origin(page, "Steps")).to_contain_text("your choice")
    page.get_by_role("button", name="Generate", exact=True).click()
    running = page.locator(".running")
    expect(running).to_contain_text(re.compile(r"Step \d+ of \d+"), timeout=LOADING)
    expect(running.get_by_alt_text("The picture in the making").first).to_be_visible()
    page.reload()  # and so it does through a reload
    expect(running).to_contain_text(re.compile(r"Step \d+ of \d+"))
    page.get_by_role("link", name="Shelf", exact=True).click()  # it goes on meanwhile
    page.get_by_role("link", name="Generate", exact=True).click()
    running.get_by_role("button", name="Cancel").click()
    expect(running).to_have_count(0)
    expect(page.locator("#said")).to_have_text("Cancelled.")
    expect(page.locator(".made")).to_have_count(0)
    assert stand.get("/v1/generations").json()["generations"][0]["state"] == "cancelled"
    settled(page)
    page.reload()
    settled(page)
    expect(running).to_have_count(0)
