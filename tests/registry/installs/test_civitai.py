"""From Civitai: the file under its own name, held against the digest announced, with what is known of it by that digest."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image

from registry.errors import DigestMismatch, FileMissing, TokenRefused
from registry.installs import worker
from registry.manager import Manager
from registry.settings import Settings
from registry.tables import InstallState
from tests.demo.strangers import sd15_lora, write
from tests.hub import Fault
from tests.hub.civitai import LoopbackCivitai
from tests.loopback import NETWORK


def picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def civitai(tmp_path: Path) -> Iterator[LoopbackCivitai]:
    path = tmp_path / "Ink Outline.safetensors"
    write(path, sd15_lora())
    with LoopbackCivitai({7: path}, images={"tame.png": picture("green"), "other.png": picture("red")}) as running:
        images = [
            {"url": f"{running.endpoint}/images/{name}", "nsfwLevel": level, "type": kind}
            for name, level, kind in (("film.mp4", 1, "video"), ("other.png", 8, "image"), ("tame.png", 1, "image"))
        ]
        running.known[7] = {
            "name": "v2",
            "baseModel": "SD 1.5",
            "trainedWords": ["ink outline", "thin"],
            "model": {"name": "Ink Outline", "type": "LORA"},
            "description": "<p>Lines of ink.</p><p>Use a weight of 0.6-0.9 &amp; be patient.</p>",
            "images": images,
        }
        yield running


@pytest.fixture
def manager(tmp_path: Path, civitai: LoopbackCivitai) -> Iterator[Manager]:
    settings = Settings(
        root=tmp_path / "root",
        civitai_endpoint=civitai.endpoint,
        civitai_token="civitai-key",
        allowed_networks=NETWORK,
        download_timeout=5,
    )
    running = Manager(settings)
    yield running
    running.close()


def test_what_is_known_by_the_hash_is_recorded_with_who_says_it(manager: Manager, civitai: LoopbackCivitai) -> None:
    model = manager.install(civitai.url(7))
    assert model.name == "Ink-Outline"
    told = {s.name: (s.value, s.by) for s in model.statements if s.name != "picture"}
    assert told == {
        "weight": (0.75, "Civitai"),
        "title": ("Ink Outline", "Civitai"),
        "version": ("v2", "Civitai"),
        "base_model": ("SD 1.5", "Civitai"),
        "description": (civitai.known[7]["description"], "Civitai"),
        "page": ("https://civitai.com/models/70?modelVersionId=7", "Civitai"),
        "preview": (f"{civitai.endpoint}/images/tame.png", "Civitai"),
    }
    assert (model.recipe["weight"]["min"], model.recipe["weight"]["max"]) == (0.6, 0.9)
    assert [(t.word, t.by) for t in model.trigger_words] == [("ink outline", "Civitai"), ("thin", "Civitai")]
    assert [(c.algorithm, c.by) for c in model.claims] == [("sha256", "Civitai")]  # of this file, not of the other
    assert manager.installs.list()[0].notes == []


def test_what_signs_an_address_is_dropped_when_it_is_of_no_use_any_more(
    manager: Manager, civitai: LoopbackCivitai, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.install(f"{civitai.url(7)}?X-Amz-Signature=1")
    failed = manager.installs.open("https://example.org/a.gguf?x=1&sig=2")
    manager.installs.move(failed.id, InstallState.FAILED)
    manager.watch_installs()
    sources = ["https://example.org/a.gguf?x=1&sig=2", civitai.url(7)]
    assert [install.source for install in manager.installs.list()] == sources  # it may be tried again
    monkeypatch.setattr(worker, "SIGNED", timedelta(0))
    manager._worker.clean()
    assert manager.installs.get(failed.id).source == "https://example.org/a.gguf?x=1"


def test_its_picture_is_kept_and_shown(manager: Manager, civitai: LoopbackCivitai) -> None:
    model = manager.install(civitai.url(7))
    with Image.open(manager.previews.path(model)) as shown:
        red, green, _ = shown.convert("RGB").getpixel((9, 9))  # type: ignore[misc]
    assert green > 100 > red  # the one that everybody may see


def test_the_newest_version_of_a_page_is_taken_and_recorded(manager: Manager, civitai: LoopbackCivitai) -> None:
    model = manager.install(f"{civitai.endpoint}/models/70/ink-outline")
    assert model.source == civitai.url(7)
    with pytest.raises(FileMissing, match="shows no model 80"):
        manager.install(f"{civitai.endpoint}/models/80")


def test_bytes_that_are_not_those_announced_are_refused(manager: Manager, civitai: LoopbackCivitai) -> None:
    civitai.faults["7"] = Fault(corrupt=True)
    with pytest.raises(DigestMismatch):
        manager.install(civitai.url(7))
    assert manager.catalog.list() == []


def test_what_is_on_the_shelf_is_not_downloaded_and_gains_the_source(
    manager: Manager, civitai: LoopbackCivitai, tmp_path: Path
) -> None:
    mine = manager.install(str(tmp_path / "Ink Outline.safetensors"))
    model = manager.install(civitai.url(7))
    assert model.id == mine.id
    assert [s.url for s in model.sources] == [str(tmp_path / "Ink Outline.safetensors"), civitai.url(7)]
    assert not [s for s in civitai.seen if s.path.startswith("/delivery") and s.range != "bytes=0-524287"]


@pytest.mark.parametrize("question", ["version", "by-hash"])
def test_an_answer_that_fails_does_not_cost_the_model(
    manager: Manager, civitai: LoopbackCivitai, question: str, impatient: None
) -> None:
    civitai.faults[question] = Fault(status=500)
    assert manager.install(civitai.url(7)).name == "Ink-Outline"
    notes = manager.installs.list()[0].notes
    assert notes == [] if question == "version" else "Civitai could not be had" in notes[0]


def test_the_key_opens_and_goes_to_that_host_alone(manager: Manager, civitai: LoopbackCivitai) -> None:
    civitai.token = "civitai-key"
    manager.install(civitai.url(7))
    assert {s.authorized for s in civitai.seen if not s.path.startswith("/delivery")} == {True}
    assert {s.authorized for s in civitai.seen if s.path.startswith("/delivery")} == {False}


def test_without_it_the_answer_says_what_to_do(manager: Manager, civitai: LoopbackCivitai) -> None:
    civitai.token = "somebody else's"
    with pytest.raises(TokenRefused, match="CIVITAI_API_TOKEN"):
        manager.install(civitai.url(7))
