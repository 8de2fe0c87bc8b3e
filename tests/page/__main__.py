"""`python -m tests.page`: takes the README's two pictures of the page, on the starter models; with `shelf`, the first one."""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.page.browser import running_browser
from tests.page.stand import Stand, running_stand

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHTS = 1200, {"shelf": 520, "generate": 1000}  # pixels
COLOURS = 200  # of the palette: nobody sees the difference, and a picture is a third as large
PROMPTS = {
    "starter-base": "a red circle on a white background",
    "starter-outline-lora": "a purple square on a yellow background, outline style",
    "starter-lcm-lora": "a yellow star on a blue background",
}


def main() -> None:
    expect.set_options(timeout=60_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stand(Path(folder) / "stand", strangers=("somebody/sd15",)) as stand,
        running_browser() as browser,
    ):
        for name, prompt in PROMPTS.items():
            give_preview(stand, name, prompt)
        page = browser.new_page(base_url=stand.address, viewport={"width": WIDTH, "height": HEIGHTS["shelf"]})
        page.goto("/")
        expect(page.locator(".card img.picture").nth(len(PROMPTS) - 1)).to_be_visible()
        page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
        save(page, "shelf")
        if "shelf" not in sys.argv:
            generate(page)
            save(page, "generate")


def give_preview(stand: Stand, name: str, prompt: str) -> None:
    loras = [] if name == "starter-base" else [{"model": name}]
    made = stand.post(  # the first waits for torch and the weights
        "/v1/generations", json={"checkpoint": "starter-base", "prompt": prompt, "loras": loras, "seed": 3}, timeout=400
    )
    png = base64.b64decode(made.raise_for_status().json()["images"][0]["png"])
    large = Image.open(io.BytesIO(png)).resize((384, 384), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    large.save(buffer, "PNG")
    stand.put(f"/v1/models/{name}/preview", content=buffer.getvalue()).raise_for_status()


def generate(page: Page) -> None:
    page.set_viewport_size({"width": WIDTH, "height": HEIGHTS["generate"]})
    page.goto("/#/generate")
    page.get_by_label("Prompt", exact=True).fill("a yellow star on a blue background")
    for name in ("starter-outline-lora", "starter-lcm-lora"):
        page.locator(".picker summary").click()
        page.locator(".offers").get_by_role("button", name=name).click()
        expect(page.locator(".told")).to_contain_text(f"{name} added")
    page.get_by_label("Pictures").fill("4")
    page.get_by_label("Seed", exact=True).fill("3")
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator(".made")).to_have_count(4, timeout=400_000)
    expect(page.locator("#said.shown")).to_have_count(0)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)  # milliseconds, for what still fades


def save(page: Page, name: str) -> None:
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = HERE / f"{name}.png"
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(Path.cwd())}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
