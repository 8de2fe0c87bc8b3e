"""`modelshelf scan`, `verify`, `duplicates`, `gc` and `update`, as processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.api.test_cli import Run, run  # noqa: F401  (a fixture)
from tests.demo.strangers import sd15_lora, write
from tests.registry.scans.library import lora

pytestmark = pytest.mark.slow


def test_a_folder_of_ones_own(run: Run, tmp_path: Path) -> None:  # noqa: F811
    library = tmp_path / "library"
    library.mkdir()
    for name in ("a", "b"):
        (library / f"{name}.safetensors").write_bytes(lora("the same", sshs_model_hash="ab" * 32))
    (library / "page.safetensors").write_bytes(b"<html>")
    done = run("scan", str(library), "--hash")
    assert done.returncode == 0, done.stderr
    assert "2 added, 1 skipped: 1 web page (page.safetensors)" in done.stdout
    told = json.loads(run("scan", "--json").stdout)[str(library)]
    assert told["unchanged"] == 2
    page = {"reason": "html_page", "count": 1, "examples": [str(library / "page.safetensors")]}
    assert told["skips"] == [page]

    [group] = json.loads(run("duplicates", "--json").stdout)
    assert {model["name"] for model in group["models"]} == {"a", "b"}

    assert "(not what the bytes have)" in run("show", "a").stdout

    assert run("verify").returncode == 0
    (library / "a.safetensors").write_bytes(b"x" * (library / "b.safetensors").stat().st_size)
    done = run("verify", "a", "b")
    assert done.returncode == 1
    assert "damaged    a\n1 damaged, 1 whole\n" in done.stdout


def test_a_folder_that_is_not_there(run: Run, tmp_path: Path) -> None:  # noqa: F811
    done = run("scan", str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stderr.startswith("modelshelf: There is no folder")
    assert "Traceback" not in done.stderr


def test_gc_shows_and_removes_only_when_told_to(run: Run, tmp_path: Path) -> None:  # noqa: F811
    run("install", "modelshelf/starter-outline-lora")
    assert run("delete", "starter-outline-lora", "--keep-file", "--yes").returncode == 0
    stray = tmp_path / "root/lora/sd-1/starter-outline-lora.safetensors"
    mine = stray.with_name("mine.safetensors")
    mine.write_bytes(b"12345")
    shown = run("gc").stdout
    assert (str(stray) in shown, str(mine) in shown) == (True, False)
    assert "Without --yes nothing is removed: 1 file, 1.62 MB." in shown
    assert stray.exists()
    assert run("gc", "--yes").returncode == 0
    assert (stray.exists(), mine.exists()) == (False, True)
    assert run("gc").stdout == "There is nothing to remove.\n"


def test_update(run: Run) -> None:  # noqa: F811
    run("install", "modelshelf/starter-outline-lora")
    done = run("update")
    assert (done.returncode, done.stdout) == (0, "")
    assert "as new as there" in done.stderr
    assert json.loads(run("update", "starter-outline-lora", "--json").stdout)["counts"] == {"current": 1}


def test_files_on_this_machine_are_moved_or_registered_where_they_lie(
    run: Run,  # noqa: F811
    tmp_path: Path,
) -> None:
    for name, rank in (("moved", 4), ("stays", 8)):
        write(tmp_path / f"mine/{name}.safetensors", sd15_lora(rank=rank))
    assert run("install", "--move", "mine/moved.safetensors").returncode == 0
    assert run("install", "--in-place", "mine/stays.safetensors").returncode == 0
    found = {m["name"]: (m["managed"], m["path"]) for m in json.loads(run("list", "--json").stdout)}
    assert found == {
        "moved": (True, "lora/sd-1/moved.safetensors"),
        "stays": (False, str(tmp_path / "mine/stays.safetensors")),
    }
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["stays.safetensors"]
    refused = run("install", "--move", "--in-place", "mine/stays.safetensors")
    assert refused.returncode != 0
    assert "exclude each other" in refused.stderr
    assert "is not on this machine" in run("install", "--move", "hf://a/b").stderr
