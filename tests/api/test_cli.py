"""The command `modelshelf`, as a process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from api.cli import main
from registry.settings import Settings
from tests.bad_sources import BAD_SOURCES, add_bad_sources, files_below
from tests.conftest import STARTER
from tests.databases import migrated_sqlite
from tests.demo.strangers import sd15_lora, write
from tests.hub import LoopbackHub
from tests.service import MODELSHELF, environment

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, hub: LoopbackHub) -> Run:
    migrated_sqlite(tmp_path / "root" / "modelshelf.db")

    def command(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = environment(tmp_path / "root", hub.endpoint, **more)
        return subprocess.run([MODELSHELF, *words], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    return command


def test_install_list_show_compatible(run: Run) -> None:
    done = run("install", "https://huggingface.co/modelshelf/starter-outline-lora", "modelshelf/starter-base")
    assert done.returncode == 0, done.stderr
    assert "starter-outline-lora  lora, sd-1" in done.stdout

    assert "starter-outline-lora" in run("list").stdout
    listed = json.loads(run("list", "--kind", "lora", "--json").stdout)
    assert [m["name"] for m in listed] == ["starter-outline-lora"]

    shown = run("show", "starter-outline-lora").stdout
    assert "recommended weight" in shown
    assert re.search(
        r"^weight +0\.75 \(recommended: model card of starter-outline-lora: “Recommended", shown, re.MULTILINE
    )
    assert listed[0]["sha256"] in shown
    assert json.loads(run("show", listed[0]["id"], "--json").stdout)["report"]["outcome"] == "identified"

    assert "starter-outline-lora" in run("compatible", "starter-base").stdout
    assert json.loads(run("compatible", "starter-base", "--json").stdout)[0]["fits"] is True


def test_an_empty_shelf_says_how_to_begin(run: Run) -> None:
    done = run("list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "modelshelf starter install" in done.stderr
    assert json.loads(run("list", "--json").stdout) == []


def test_a_lora_that_does_not_fit_is_not_listed_but_explained(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "sd15.safetensors", sd15_lora())
    assert run("install", "./sd15.safetensors", "modelshelf/starter-base").returncode == 0
    assert "sd15" not in run("compatible", "starter-base").stdout
    assert "tensors do not fit" in run("compatible", "starter-base", "--all").stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("show", "nothing"), "model_not_found"),
        (("install", "modelshelf/no-such-repository"), "repository_not_found"),
        (("compatible", "nothing"), "model_not_found"),
        (("generate", "nothing", "a cat"), "model_not_found"),
    ],
)
def test_an_error_is_one_readable_line(run: Run, words: tuple[str, ...], code: str) -> None:
    done = run(*words)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().count("\n") == 0
    assert done.stderr.startswith("modelshelf: ")
    assert done.stderr.strip().endswith(f"[{code}]")


@pytest.mark.parametrize(("source", "code", "_status"), BAD_SOURCES)
def test_a_source_that_cannot_be_installed(
    settings: Settings,
    hub: LoopbackHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    code: str,
    _status: int,
) -> None:
    """In this process: starting one takes 1.4 s."""
    add_bad_sources(hub.root, STARTER)
    for name, value in environment(settings.root, hub.endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["modelshelf", "install", source])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (1, "")
    assert said.err.startswith("modelshelf: ")
    assert said.err.endswith(f"[{code}]\n")
    assert said.err.count("\n") == 1
    assert files_below(settings.root) == set()


@pytest.mark.parametrize(("name", "value"), [("MODELSHELF_PORT", "many"), ("HF_ENDPOINT", "huggingface.co")])
def test_a_setting_that_cannot_be_used(run: Run, name: str, value: str) -> None:
    done = run("list", **{name: value})
    assert done.returncode == 1
    assert done.stderr.endswith("[invalid_setting]\n")
    assert done.stderr.count("\n") == 1


def test_your_own_settings(run: Run) -> None:
    run("install", "modelshelf/starter-outline-lora")
    assert run("set", "starter-outline-lora", "--weight", "0.6").stdout == "starter-outline-lora: weight 0.6\n"
    assert "your weight" in run("show", "starter-outline-lora").stdout
    assert run("set", "starter-outline-lora", "--weight", "60").returncode == 1
    assert run("set", "starter-outline-lora", "--reset").stdout == "starter-outline-lora: no settings of your own\n"


@pytest.mark.slow
def test_generate_saves_pictures_and_shows_where_every_value_came_from(run: Run, tmp_path: Path) -> None:
    assert run("starter", "install").returncode == 0
    words = (
        "a red heart on a white background",
        "--lora",
        "starter-lcm-lora",
        "--lora",
        "starter-heart:0.7",
        "--seed",
        "4",
    )
    done = run("generate", "starter-base", *words, "-n", "2", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["starter-base-4.png", "starter-base-5.png"]
    assert "recommended" in done.stdout
    assert "requested" in done.stdout
    assert "lcm" in done.stdout


def test_a_folder_that_was_copied_by_hand_can_be_installed(run: Run, tmp_path: Path) -> None:
    shutil.copytree(STARTER / "modelshelf/starter-heart-lora", tmp_path / "heart")
    assert "starter-heart  lora, sd-1" in run("install", "./heart").stdout


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("outline", ("outline", None, None)),
        ("outline:0.5", ("outline", 0.5, None)),
        ("outline:-1:0.5", ("outline", 0.5, -1.0)),
        ("a:b", ("a:b", None, None)),
        ("a:1:b:2", ("a:1:b", 2.0, None)),
    ],
)
def test_a_lora_with_one_weight_or_two(text: str, asked: tuple[str, float | None, float | None]) -> None:
    from api.cli.generating import _adapter

    adapter = _adapter(text)
    assert (adapter.model, adapter.weight, adapter.text_weight) == asked
