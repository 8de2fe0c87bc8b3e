"""`modelshelf generate` and the folder that its pictures go to: nothing is made that could not be saved, nor lost without a word."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from api.cli.local import LocalShelf
from api.cli.remote import RemoteShelf
from tests.api.conftest import NOWHERE, Here

WHERE = pytest.mark.parametrize("server", [(), ("--server", NOWHERE)], ids=["by itself", "with a service"])


@WHERE
@pytest.mark.parametrize("output", ["file", "file/below", "/proc"])  # nobody, root neither, can make a file in /proc
def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_made(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, server: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    code, out, err = here(*server, "generate", "starter-base", "a red circle", "-o", output)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"modelshelf: --output: no picture can be saved in {(tmp_path / output).absolute()}: ")
    assert err.endswith("Nothing was generated. [invalid_request]\n")
    assert (tmp_path / "file").read_text() == "mine"


@WHERE
def test_pictures_that_cannot_be_saved_can_be_had_again(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[str, ...]
) -> None:
    def full(path: Path, _: bytes) -> NoReturn:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    plan = SimpleNamespace(checkpoint_name="base", seed=SimpleNamespace(value=4))
    made = SimpleNamespace(id="5eed", plan=plan, images=[SimpleNamespace(seed=4, png=b"a picture")])
    for shelf in (LocalShelf, RemoteShelf):
        monkeypatch.setattr(shelf, "generate", lambda *_: made)
    monkeypatch.setattr(Path, "write_bytes", full)
    code, out, err = here(*server, "generate", "base", "a red circle", "-o", str(tmp_path / "out"))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"Not every picture could be saved in {tmp_path / 'out'}: No space left on device. " in err
    assert (f"GET {NOWHERE}/v1/generations/5eed" if server else "5eed is lost; --seed 4") in err
    assert err.endswith("[not_saved]\n")
    assert list((tmp_path / "out").iterdir()) == []
