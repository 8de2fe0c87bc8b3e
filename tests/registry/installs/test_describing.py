"""The picture that shows a model comes with it, wherever its provider keeps one; an install never fails for it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from registry.errors import FileMissing
from registry.manager import Manager
from registry.models import Model
from tests.demo.strangers import safetensors, write
from tests.hub import LoopbackHub

COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}
SHAPES = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": [4, 768],
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight": [320, 4],
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.alpha": [],
}


def picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def shown(manager: Manager, model: Model) -> str:
    """The colour that its preview has."""
    with Image.open(manager.previews.path(model)) as image:
        seen = image.convert("RGB").getpixel((4, 4))
    return min(COLOURS, key=lambda name: sum(abs(a - b) for a, b in zip(COLOURS[name], seen, strict=True)))  # type: ignore[arg-type]


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    (tmp_path / "hub").mkdir()
    return tmp_path / "hub"


@pytest.fixture
def hub(shelf: Path):  # type: ignore[no-untyped-def]
    with LoopbackHub(shelf) as running:
        yield running


CARD = "---\nthumbnail: {thumbnail}\nwidget:\n- text: a house\n  output:\n    url: images/one.png\n---\n# Ink\n"
ELSEWHERE = "https://example.org/pixel.png"


@pytest.mark.parametrize(
    ("files", "by", "colour"),
    [
        ({"ink.preview.png": picture("red"), "README.md": CARD.format(thumbnail="b.png").encode()}, "file beside it", "red"),
        ({"README.md": CARD.format(thumbnail="./b.png").encode(), "b.png": picture("green")}, "model card", "green"),
        ({"README.md": CARD.format(thumbnail=ELSEWHERE).encode(), "images/one.png": picture("blue")}, "model card", "blue"),
        (
            {
                "README.md": CARD.format(thumbnail="https://huggingface.co/ada/ink/resolve/main/c.png").encode(),
                "c.png": picture("red"),
            },
            "model card",
            "red",
        ),
    ],
    ids=["beside the file", "the card's thumbnail", "the card's widget, no stranger's host", "the repository's own address"],
)  # fmt: skip
def test_from_a_repository(
    manager: Manager, hub: LoopbackHub, shelf: Path, files: dict[str, bytes], by: str, colour: str
) -> None:
    write(shelf / "ada/ink/ink.safetensors", safetensors(SHAPES, {"ss_base_model_version": "sd_v1"}))
    for name, body in files.items():
        write(shelf / "ada/ink" / name, body)
    model = manager.install("ada/ink")
    assert (model.facts["picture"]["by"], shown(manager, model)) == (by, colour)


def test_from_the_files_header(manager: Manager, tmp_path: Path) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(picture('green')).decode()}"
    path = tmp_path / "mine/ink.safetensors"
    write(path, safetensors(SHAPES, {"ss_base_model_version": "sd_v1", "modelspec.thumbnail": uri}))
    model = manager.install(str(path))
    assert (model.facts["picture"]["by"], shown(manager, model)) == ("file header", "green")


def test_what_is_no_picture_is_told_and_the_next_one_taken(manager: Manager, hub: LoopbackHub, shelf: Path) -> None:
    write(shelf / "ada/ink/ink.safetensors", safetensors(SHAPES, {"ss_base_model_version": "sd_v1"}))
    write(shelf / "ada/ink/ink.png", b"<html>")
    write(shelf / "ada/ink/b.png", picture("blue"))
    write(shelf / "ada/ink/README.md", CARD.format(thumbnail="b.png").encode())
    assert shown(manager, manager.install("ada/ink")) == "blue"
    [note] = manager.installs.list()[0].notes
    assert note.startswith("Its preview (file beside it) could not be had: The picture cannot be read")


def test_of_a_scanned_model_the_file_beside_it_until_the_user_chooses_another(manager: Manager, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write(folder / "ink.safetensors", safetensors(SHAPES, {"ss_base_model_version": "sd_v1"}))
    write(folder / "ink.preview.png", picture("red"))
    manager.scans.scan(folder)
    [model] = manager.catalog.list()
    assert shown(manager, model) == "red"
    chosen = manager.set_preview(model.id, picture("green"))
    assert shown(manager, chosen) == "green"
    back = manager.set_preview(model.id, None)
    (folder / "ink.preview.png").unlink()
    with pytest.raises(FileMissing, match="cannot be read"):
        manager.previews.path(back)
