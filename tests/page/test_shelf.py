"""The shelf and a model's own page."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.demo.strangers import sd15_lora, write
from tests.page.conftest import Console
from tests.page.stand import ALIKE, HOSTILE, Stand

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def names(page: Page) -> list[str]:
    return page.locator(".card-name").all_inner_texts()


def test_a_size_has_the_unit_that_its_rounded_number_belongs_to(page: Page) -> None:
    page.goto("/")
    sizes = [0, 999, 1000, 99_960, 999_499, 999_600, 4.27e9, 1.2e12]
    texts = ["0 B", "999 B", "1.0 kB", "100 kB", "999 kB", "1.0 MB", "4.3 GB", "1.2 TB"]
    shown = "async sizes => { const { bytes } = await import('/page/format.js'); return sizes.map(bytes); }"
    assert page.evaluate(shown, sizes) == texts


def test_cards_filters_and_live_search(page: Page) -> None:
    page.goto("/")
    expect(page).to_have_title("Shelf · modelshelf")
    card = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="starter-outline-lora", exact=True))
    for text in ("LoRA", "sd-1", "weight 0.75", "1.6 MB"):
        expect(card).to_contain_text(text)
    card.get_by_role("button", name="Copy outline style").click()
    expect(page.locator("#said")).to_have_text("Copied: outline style")
    assert page.evaluate("navigator.clipboard.readText()") == "outline style"

    page.get_by_role("button", name="LCM-LoRAs").click()
    expect(page.locator(".card-name")).to_have_text(["starter-lcm-lora"])
    page.get_by_role("button", name="All").click()
    page.keyboard.press("/")
    page.keyboard.type("OUTLINE")
    expect(page.locator(".card-name")).to_have_text(["starter-outline-lora"])
    page.keyboard.type(" no such thing")
    expect(page.get_by_text("No model matches these filters.")).to_be_visible()
    page.get_by_role("searchbox").fill("")
    page.get_by_label("Family").select_option("sd-1")
    expect(page.locator(".card-name", has_text="starter-base")).to_be_visible()
    page.get_by_role("button", name="List").click()
    page.reload()
    expect(page.locator(".grid.as-list .card-name", has_text="starter-base")).to_be_visible()


def test_a_models_page_tells_why_and_is_edited_in_place(page: Page, stand: Stand) -> None:
    page.goto("/")
    page.get_by_role("link", name="starter-outline-lora", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("starter-outline-lora")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    model = stand.get("/v1/models/starter-outline-lora").json()
    evidence = page.locator(".panel", has_text="Why sd-1? Why LoRA?")
    for fact in model["report"]["evidence"]:
        expect(evidence).to_contain_text(fact["expected"])
    for digest in (model["blake3"], model["sha256"], model["autov3"]):
        expect(page.get_by_role("button", name=f"Copy {digest}")).to_be_visible()
    expect(page.get_by_role("link", name="modelshelf/starter-outline-lora")).to_have_attribute(
        "href", "https://huggingface.co/modelshelf/starter-outline-lora"
    )
    expect(page.locator(".verdicts")).to_contain_text("starter-base")

    weight = page.get_by_label("Weight", exact=True)
    weight.fill("99")
    weight.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="must be between")).to_be_visible()
    weight.fill("much")
    weight.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="not what belongs here")).to_be_visible()
    weight.fill("0,6")
    weight.press("Enter")
    expect(page.locator(".model-head")).to_contain_text("Weight 0.6 your setting for starter-outline-lora")
    page.get_by_label("Weight range").fill("0.4 to 0.9")
    page.get_by_label("Weight range").press("Enter")
    expect(page.locator("#said")).to_have_text("Weight range saved.")
    page.reload()
    expect(page.get_by_label("Weight range")).to_have_value("0.4 to 0.9")
    assert stand.get("/v1/models/starter-outline-lora").json()["overrides"] == {
        "weight": 0.6,
        "weight_min": 0.4,
        "weight_max": 0.9,
    }
    page.get_by_label("Notes").fill("for line drawings")
    page.get_by_label("Tags").fill("drawing, line")
    expect(page.locator("#said")).to_have_text("Notes saved.")
    expect(page.get_by_label("Tags")).to_be_focused()
    page.get_by_label("Tags").press("Enter")
    expect(page.locator("#said")).to_have_text("Tags saved.")
    expect(page.locator(".own-notes")).to_have_text("for line drawings")
    assert stand.get("/v1/models", params={"q": "drawing"}).json()["models"][0]["name"] == "starter-outline-lora"
    for field in ("Notes", "Tags"):
        page.get_by_label(field, exact=True).fill("")
        page.get_by_label(field, exact=True).blur()
        expect(page.locator("#said")).to_have_text(f"{field} saved.")
    for field in ("Weight", "Weight range"):
        page.get_by_label(field, exact=True).fill("")
        page.get_by_label(field, exact=True).press("Enter")
        expect(page.locator("#said")).to_have_text(f"{field} saved.")
    expect(page.locator(".model-head")).to_contain_text("Weight 0.75 recommended by model card")
    assert stand.get("/v1/models/starter-outline-lora").json()["overrides"] == {}


def test_a_checkpoints_page_lists_what_fits_and_takes_a_preview(page: Page, stand: Stand) -> None:
    page.goto(f"/#/model/{stand.get('/v1/models/starter-base').json()['id']}")
    fitting = page.locator(".panel", has_text="LoRAs that fit")
    for name in ("starter-heart", "starter-lcm-lora", "starter-outline-lora", "hostile"):
        expect(fitting.get_by_role("link", name=name)).to_be_visible()
    # Other tests of this module's service may have installed more that does not fit.
    fitting.get_by_text(re.compile(r"\d+ that do(es)? not fit, and why")).click()
    expect(fitting.get_by_role("listitem").filter(has_text="sd15")).to_contain_text("tensors do not fit")
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(buffer, "PNG")
    page.locator("#preview-file").set_input_files(
        {"name": "p.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
    )
    expect(page.locator(".model-preview img")).to_be_visible()
    page.goto("/")
    expect(page.locator(".card img.picture")).to_have_count(1)
    assert (
        page.locator(".card img.picture").evaluate("async (img) => { await img.decode(); return img.naturalWidth; }")
        == 40
    )
    page.get_by_role("link", name="starter-base", exact=True).click()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.locator(".model-preview .tile")).to_be_visible()


def test_a_model_is_removed_with_its_file_after_a_question(page: Page, stand: Stand) -> None:
    write(stand.hub.root / "somebody/unwanted/unwanted.safetensors", sd15_lora(rank=5))
    model = stand.get(f"/v1/models/{stand.install('somebody/unwanted')}").json()
    file = stand.root / model["path"]
    page.goto(f"/#/model/{model['id']}")
    page.get_by_role("button", name="Remove from the shelf").click()
    dialog = page.get_by_role("dialog", name="Remove unwanted?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert file.exists()
    page.get_by_role("button", name="Remove from the shelf").click()
    dialog.get_by_role("button", name="Remove it and its file").click()
    expect(page.locator("#said")).to_have_text("unwanted was removed.")
    expect(page.locator(".card").first).to_be_visible()
    assert "unwanted" not in names(page)
    assert not file.exists()


def test_what_strangers_write_stays_text(page: Page) -> None:
    """On the card, on the model's own page, and in Generate."""
    page.goto("/")
    expect(page.get_by_role("button", name=f"Copy {HOSTILE}")).to_be_visible()
    page.get_by_role("link", name="hostile", exact=True).click()
    expect(page.locator(".model-head .triggers")).to_contain_text(HOSTILE)
    expect(page.get_by_text("javascript:window.attacked=1")).to_be_visible()
    assert page.locator('a[href^="javascript"]').count() == 0
    page.get_by_role("link", name="Use it in a picture").click()
    page.get_by_role("button", name=f"Add {HOSTILE} to the prompt").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(HOSTILE)
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("window.attacked") is None


def test_a_server_that_does_not_answer_is_told_in_words(page: Page, console: list[Console]) -> None:
    page.goto("/")
    expect(page.locator(".card").first).to_be_visible()
    console[0].expect(*(f"ERR_INTERNET_DISCONNECTED /v1/{asked}" for asked in ("models", "families")))
    page.context.set_offline(True)
    page.get_by_role("searchbox").fill("heart")
    expect(page.get_by_role("alert")).to_have_text("The server does not answer. Is modelshelf still running?")
    page.context.set_offline(False)
    page.get_by_role("searchbox").fill("starter-heart")
    expect(page.locator(".card")).to_have_count(1)
    expect(page.get_by_role("alert")).to_have_count(0)
    page.goto("/#/model/nothing")
    problem = page.get_by_role("alert")
    expect(problem.locator("p")).to_have_text("There is no model “nothing” on the shelf.")
    problem.get_by_role("link", name="Back to the shelf").click()
    expect(page.locator(".card").first).to_be_visible()


def test_a_look_alike_is_corrected_on_its_page_and_back(page: Page, stand: Stand) -> None:
    model = stand.install(ALIKE)
    page.goto(f"/#/model/{model}")
    family, correction = page.locator(".model-head .family"), page.locator(".correction")
    expect(family).to_have_text("sdxl")
    expect(page.locator(".model-head")).to_contain_text("or koala, kolors, segmind-vega, ssd-1b")
    correction.get_by_role("button", name="It is for kolors").press("Enter")
    expect(page.locator("#said")).to_have_text("It counts as kolors now.")
    expect(family).to_have_text("kolors")
    expect(page.get_by_role("heading", name="Why kolors? Why LoRA?")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    assert stand.get(f"/v1/models/{model}").json()["overrides"] == {"family": "kolors"}
    correction.get_by_role("button", name="Take it back").press("Enter")
    expect(family).to_have_text("sdxl")
    expect(correction.get_by_role("button", name="It is for kolors")).to_be_visible()
