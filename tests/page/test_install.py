"""Install: told what it is before a byte of weights moves, then followed, paused, resumed, cancelled."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.conftest import STARTER
from tests.demo.strangers import open_lora, sd15_lora, write
from tests.hub import Fault
from tests.page.stand import ALIKE, OPEN, Stand
from tests.probes import headers
from tests.service import MODELSHELF, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def job(page: Page, source: str) -> Locator:
    return page.locator(".job").filter(has=page.get_by_text(f"hf://{source}", exact=True))


def paste(page: Page, source: str) -> None:
    page.get_by_label("Address of a model").fill(source)


def test_an_address_is_explained_at_once(page: Page) -> None:
    page.goto("/#/install")
    paste(page, "https://huggingface.co/modelshelf/starter-lcm-lora")
    found = page.locator(".found")
    expect(found.get_by_role("heading")).to_have_text("starter-lcm-lora")
    for text in ("LCM-LoRA", "sd-1", "1.8 MB"):
        expect(found.locator(".model-kind")).to_contain_text(text)
    expect(found).to_contain_text("Installed already: starter-lcm-lora")
    expect(found).to_contain_text("Fits starter-base.")
    expect(found.get_by_role("button", name="Install")).to_have_count(0)
    paste(page, "somebody/vae")
    expect(page.get_by_role("alert")).to_contain_text("This is a vae")
    expect(page.locator(".found").get_by_role("button", name="Install")).to_have_count(0)


def test_a_slow_install_is_followed_paused_resumed_and_ends_on_the_shelf(page: Page, stand: Stand) -> None:
    whole = sd15_lora(rank=128)
    write(stand.hub.root / "somebody/slow/slow.safetensors", whole)
    fault = stand.hub.faults["somebody/slow/slow.safetensors"] = Fault(bytes_per_second=len(whole) // 10)
    page.goto("/#/install")
    paste(page, "somebody/slow")
    expect(page.locator(".found")).to_contain_text("Does not fit your one sd-1 checkpoint.")
    page.get_by_text("Does not fit starter-base: why?").click()
    expect(page.locator(".found")).to_contain_text("tensors do not fit")
    page.get_by_role("button", name="Install", exact=True).click()
    row = job(page, "somebody/slow")
    expect(row).to_contain_text("downloading")
    expect(row.locator(".figures")).to_have_text(re.compile(r"[\d.]+ [kM]?B of 4\.\d MB · .*B/s"))
    row.get_by_role("button", name="Pause").click()
    expect(row.locator(".state")).to_have_text("paused")
    page.reload()
    expect(row.locator(".state")).to_have_text("paused")
    fault.bytes_per_second = None
    row.get_by_role("button", name="Resume").click()
    expect(row.locator(".state")).to_have_text("installed")
    row.get_by_role("link", name="Show").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("slow")


def test_an_install_is_cancelled_and_tried_again(page: Page, stand: Stand) -> None:
    whole = sd15_lora(rank=96)
    write(stand.hub.root / "somebody/endless/endless.safetensors", whole)
    fault = stand.hub.faults["somebody/endless/endless.safetensors"] = Fault(bytes_per_second=len(whole) // 100)
    page.goto("/#/install?source=somebody/endless")
    page.get_by_role("button", name="Install", exact=True).click()
    row = job(page, "somebody/endless")
    row.get_by_role("button", name="Cancel").click()
    expect(row.locator(".state")).to_have_text("cancelled")
    fault.bytes_per_second = None
    row.get_by_role("button", name="Try again").click()
    expect(row.locator(".state")).to_have_text("installed")


def test_an_install_that_has_ended_is_forgotten_with_what_arrived_of_it(page: Page, stand: Stand) -> None:
    whole = sd15_lora(rank=160)
    write(stand.hub.root / "somebody/stopped/stopped.safetensors", whole)
    stand.hub.faults["somebody/stopped/stopped.safetensors"] = Fault(bytes_per_second=len(whole) // 10)
    model = stand.install("somebody/sd15")
    there = set((stand.root / ".downloads").rglob("*"))
    page.goto("/#/install?source=somebody/stopped")
    page.get_by_role("button", name="Install", exact=True).click()
    row = job(page, "somebody/stopped")
    expect(row.locator(".figures")).to_have_text(re.compile(r"[1-9][\d.]* \wB of"))
    expect(row.get_by_role("button", name="Forget")).to_have_count(0)
    row.get_by_role("button", name="Cancel").click()
    expect(row.locator(".state")).to_have_text("cancelled")
    arrived = set((stand.root / ".downloads").rglob("*")) - there
    assert arrived
    row.get_by_role("button", name="Forget").click()
    expect(page.locator("#said")).to_have_text("The install of hf://somebody/stopped is forgotten.")
    expect(row).to_have_count(0)
    assert not any(path.exists() for path in arrived)
    expect(page.get_by_role("heading", name="Installs")).to_be_focused()
    installed = job(page, "somebody/sd15").first
    installed.get_by_role("button", name="Forget").click()
    page.reload()
    expect(page.locator(".job").first).to_be_visible()
    expect(row).to_have_count(0)
    assert stand.get(f"/v1/models/{model}").status_code == 200


def test_what_goes_wrong_is_told_in_words(page: Page, stand: Stand) -> None:
    page.goto("/#/install")
    for source, words in (
        ("not a source", "is neither OWNER/REPO nor something on this machine"),
        ("somebody/missing", "somebody/missing"),
        ("somebody/gated", "gated"),
        ("somebody/pickle", "pickle"),
    ):
        paste(page, source)
        expect(page.get_by_role("alert")).to_contain_text(words)
    paste(page, "somebody/two")
    page.get_by_role("button", name=re.compile(r"b\.safetensors")).click()
    expect(page.locator(".found").get_by_role("heading")).to_have_text("b")
    # Announced well, delivered wrong: only the download shows it.
    write(stand.hub.root / "somebody/wrong/wrong.safetensors", sd15_lora(rank=192))
    stand.hub.faults["somebody/wrong/wrong.safetensors"] = Fault(corrupt=True)
    paste(page, "somebody/wrong")
    expect(page.locator(".found").get_by_role("heading")).to_have_text("wrong")
    page.get_by_role("button", name="Install", exact=True).click()
    row = job(page, "somebody/wrong")
    expect(row.locator(".state")).to_have_text("failed")
    expect(row.locator(".problem")).to_contain_text(stand.get("/v1/installs").json()["installs"][0]["error"]["detail"])


def test_what_a_header_leaves_open_is_said_by_a_button(page: Page) -> None:
    page.goto("/#/install")
    paste(page, OPEN)
    found = page.locator(".found")
    expect(found.get_by_role("alert")).to_contain_text("The shapes fit sd-1 lora and sd-2 lora alike")
    expect(found.get_by_role("button", name="Install", exact=True)).to_have_count(0)
    ways = found.get_by_role("list", name="Install it as").get_by_role("button")
    expect(ways).to_have_text(["It is for sd-1", "It is for sd-2"])
    ways.nth(1).press("Enter")
    row = job(page, OPEN)
    expect(row.locator(".state")).to_have_text("installed")
    row.get_by_role("link", name="Show").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("open")
    expect(page.locator(".model-head .family")).to_have_text("sd-2")
    expect(page.locator(".correction")).to_contain_text("You said that it is for sd-2.")
    page.get_by_role("button", name="Take it back").click()
    expect(page.locator(".correction").get_by_role("alert")).to_contain_text(
        "nothing in the file or beside it says which"
    )
    expect(page.locator(".model-head .family")).to_have_text("sd-2")


def test_of_one_that_failed_for_it_it_can_be_said_too(page: Page, stand: Stand) -> None:
    write(stand.hub.root / "somebody/unsaid/unsaid.safetensors", open_lora(rank=6))
    env = environment(stand.root, stand.hub.endpoint)
    assert subprocess.run([MODELSHELF, "install", "somebody/unsaid"], env=env, stdin=subprocess.DEVNULL).returncode == 1
    page.goto("/#/install")
    row = job(page, "somebody/unsaid")
    expect(row.locator(".state")).to_have_text("failed")
    row.get_by_role("button", name="Choose: hf://somebody/unsaid").press("Enter")
    page.locator(".found").get_by_role("button", name="It is for sd-1").click()
    expect(job(page, "somebody/unsaid").locator(".state")).to_have_text(["installed", "failed"])
    row.get_by_role("link", name="Show").click()
    expect(page.locator(".model-head .family")).to_have_text("sd-1")


def test_where_family_and_kind_are_open_a_button_says_both(page: Page, stand: Stand) -> None:
    fast = stand.root / "incoming/fast.safetensors"
    fixture = headers.load("lcm-lora-sdxl")
    fast.parent.mkdir(exist_ok=True)
    headers.write_sparse(fast, fixture.tensors, fixture.metadata)
    page.goto("/#/install")
    paste(page, str(fast))
    ways = page.locator(".found").get_by_role("list", name="Install it as").get_by_role("button")
    expect(ways).to_have_text(
        [f"It is {what} for {family}" for family in ("sdxl", "kolors") for what in ("an ordinary LoRA", "an LCM-LoRA")]
    )


def test_a_look_alike_may_be_installed_as_the_other(page: Page) -> None:
    page.goto("/#/install")
    paste(page, ALIKE)
    expect(page.locator(".found .model-kind")).to_contain_text("or koala, kolors, segmind-vega, ssd-1b")
    which = page.get_by_label("It is for")
    expect(which.locator("option:checked")).to_have_text("sdxl")
    which.select_option("kolors")
    page.get_by_role("button", name="Install", exact=True).click()
    row = job(page, ALIKE)
    expect(row.locator(".state")).to_have_text("installed")
    row.get_by_role("link", name="Show").click()
    expect(page.locator(".model-head .family")).to_have_text("kolors")


def test_how_a_file_on_the_server_is_installed_may_be_chosen(page: Page, stand: Stand) -> None:
    mine = stand.root / "incoming/mine.safetensors"
    write(mine, sd15_lora(rank=7))
    page.goto("/#/install")
    paste(page, str(mine))
    place = page.get_by_label("The file on the server")
    expect(place).to_have_value("copy")
    expect(page.get_by_label("Precision")).to_have_count(0)
    place.press("End")  # by keyboard: the last of them
    expect(place).to_have_value("in_place")
    page.get_by_role("button", name="Install", exact=True).click()
    row = page.locator(".job").filter(has=page.get_by_text(str(mine), exact=True))
    expect(row.locator(".state")).to_have_text("installed")
    model = stand.get("/v1/models/mine").json()
    assert (model["managed"], stand.root / model["path"]) == (False, mine)


def test_of_a_pipeline_in_several_precisions_one_is_chosen(page: Page, stand: Stand) -> None:
    shutil.copytree(STARTER / "modelshelf/starter-base", stand.hub.root / "somebody/precise")
    unet = stand.hub.root / "somebody/precise/unet/diffusion_pytorch_model.safetensors"
    data = unet.read_bytes()
    length = int.from_bytes(data[:8], "little")
    half = (length + 8).to_bytes(8, "little") + data[8 : 8 + length] + b" " * 8 + data[8 + length :]
    write(unet.with_suffix(".fp16.safetensors"), half)  # other bytes than the starter's
    (stand.hub.root / "somebody/precise/starter-base.safetensors").unlink()
    unet.write_bytes((length + 16).to_bytes(8, "little") + data[8 : 8 + length] + b" " * 16 + data[8 + length :])
    page.goto("/#/install")
    paste(page, "somebody/precise")
    precision = page.get_by_label("Precision")
    expect(precision.get_by_role("option")).to_have_text(["as published", "fp16"])
    expect(page.get_by_label("The file on the server")).to_have_count(0)
    precision.select_option("fp16")
    page.get_by_role("button", name="Install", exact=True).click()
    expect(job(page, "somebody/precise").locator(".state")).to_have_text("installed")
    files = [file["path"] for file in stand.get("/v1/models/precise").json()["files"]]
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in files
    assert "unet/diffusion_pytorch_model.safetensors" not in files
