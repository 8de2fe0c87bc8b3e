"""What the user has said of a file that lies in a folder of his goes with it, whoever looks at it again and wherever it lies."""

from __future__ import annotations

import pytest

from registry.installs.options import Options, Place
from registry.scans import record
from tests.demo.strangers import look_alike_lora, open_lora
from tests.registry.scans.library import Library, lora, touch_later

WORDS = {"family": "sd-2"}


@pytest.fixture
def library(library: Library) -> Library:
    """`ink`, which is open and was said to be for sd-2, and `pen`, a look-alike of sdxl and kolors that was corrected; hashed."""
    path = library.put("ink.safetensors", open_lora())
    library.put("pen.safetensors", look_alike_lora())
    assert library.scan() == {"added": 1, "skipped": 1}
    library.manager.install(str(path), options=Options(Place.IN_PLACE, **WORDS))
    library.manager.edit("pen", {"family": "kolors"})
    library.hash()
    return library


def families(library: Library) -> dict[str, str]:
    return {m.name: m.family for m in library.manager.catalog.every() if m.missing_since is None}


SAID = {"ink": "sd-2", "pen": "kolors"}


def test_nothing_is_looked_at_again_without_need(library: Library) -> None:
    assert (library.scan(), families(library)) == ({"unchanged": 2}, SAID)


def test_it_survives_a_scan_afresh_and_another_prober(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (library.scan(afresh=True), families(library)) == ({"changed": 2}, SAID)
    monkeypatch.setattr(record, "prober", lambda: "the next one")
    assert (library.scan(), families(library)) == ({"changed": 2}, SAID)
    assert library.manager.catalog.report(library.model("ink"))["family"] == "sd-2"


def test_it_moves_with_the_file(library: Library) -> None:
    (library.folder / "deep").mkdir()
    for name in SAID:
        (library.folder / f"{name}.safetensors").rename(library.folder / f"deep/other-{name}.safetensors")
    assert (library.scan(), families(library)) == ({"moved": 2}, SAID)
    assert library.scan(afresh=True) == {"changed": 2}
    assert families(library) == SAID


def test_it_moves_with_the_bytes(library: Library) -> None:
    """To another disk: only the digest is the same."""
    data = {name: (library.folder / f"{name}.safetensors").read_bytes() for name in SAID}
    for name in SAID:
        (library.folder / f"{name}.safetensors").unlink()
        touch_later(library.put(f"copy-{name}.safetensors", data[name]))
    assert (library.scan(), families(library)) == ({"moved": 2}, SAID)


def test_what_takes_the_place_of_its_file_is_what_its_shapes_say(library: Library) -> None:
    library.put("pen.safetensors", lora("another"))
    library.scan()
    assert families(library) == {"ink": "sd-2", "pen": "sd-1"}
    assert library.manager.catalog.report(library.model("pen"))["evidence"][-1]["rule"] == "excluded"


def test_files_of_which_nothing_was_said_stay_open(library: Library) -> None:
    library.put("nib.safetensors", open_lora(rank=8))
    assert library.scan() == {"unchanged": 2, "skipped": 1}


def test_a_file_that_was_written_to_is_still_what_it_was_said_to_be(library: Library) -> None:
    touch_later(library.put("ink.safetensors", open_lora(rank=8)))
    assert library.manager.scans.current(library.model("ink")).family == "sd-2"
