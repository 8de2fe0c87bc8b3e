"""The README is held against the code."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from api.cli import main
from probes.families import SIGNATURES
from probes.report import Kind
from registry.settings import Settings
from tests.service import environment

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_what_is_listed_the_probe_knows() -> None:
    """All of it. That a new family stands here, too, is asked of nobody: it costs its file, its line and its fixture."""
    both, alone, parts = (
        set(re.findall(r"`([^`]+)`", README.partition(head)[2].partition(end)[0]))
        for head, end in (
            ("checkpoints and LoRAs of", ";"),
            ("checkpoints alone of", ". "),
            ("and does not take:", ". "),
        )
    )
    families = {
        kind: {s.family for s in SIGNATURES if s.kind is kind and s.family} for kind in (Kind.CHECKPOINT, Kind.LORA)
    }
    assert both
    assert both <= families[Kind.CHECKPOINT] & families[Kind.LORA]
    assert alone
    assert alone <= families[Kind.CHECKPOINT]
    assert parts == {*Kind} - {Kind.CHECKPOINT, Kind.LORA, Kind.LCM_LORA}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_configuration_table(name: str) -> None:
    assert Settings.model_fields[name].description
    assert re.search(rf"^\| `{Settings.variable(name)}` \|", README, re.MULTILINE), (
        f"{Settings.variable(name)} has no row in the README"
    )


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_documented_variable_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = {
        "root": "/x",
        "port": "1",
        "memory_gib": "2",
        "backend": "package.module:Class",
        "batch": "2",
        "queue": "5",
        "max_pictures": "3",
        "max_side": "64",
        "max_prompt": "70",
        "max_body_mib": "8",
        "requests_per_minute": "9",
        "log_format": "json",
        "log_level": "debug",
        "host_memory_gib": "4",
        "keep_alive_minutes": "5",
        "download_timeout": "3",
        "download_patience": "7",
        "allowed_hosts": "a.example,*.b.example",
        "allowed_networks": "10.0.0.0/8,fd00::/8",
        "allowed_folders": "/models,/more",
        "download_connections": "2",
        "installs_at_once": "4",
        "keep_installs_days": "5",
        "hub_endpoint": "https://hub.example",
        "server": "http://gpu.example:8420",
        "civitai_endpoint": "https://civitai.example",
    }
    sample = samples.get(name, "value")
    monkeypatch.setenv(Settings.variable(name), sample)
    value = getattr(Settings(), name)
    assert (",".join(map(str, value)) if isinstance(value, tuple) else str(value)) in {sample, f"{sample}.0"}


def test_the_table_names_no_variable_that_does_not_exist() -> None:
    rows = re.findall(r"^\| `((?:MODELSHELF|HF|CIVITAI)_[A-Z_]+)` \|", README, re.MULTILINE)
    assert set(rows) == {Settings.variable(name) for name in Settings.model_fields}


def test_linked_files_exist() -> None:
    links = [target for target in re.findall(r"\]\(([^)#:]+)\)", README) if target]
    assert links
    assert [target for target in links if not (ROOT / target).exists()] == []


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)) <= targets


@pytest.mark.slow
def test_the_first_five_minutes_go_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for setting up the environment, which this one is already, and for the service, which does not end."""
    (block,) = re.findall(r"### Five minutes.*?```console\n(.*?)```", README, re.DOTALL)
    commands = [line for line in block.splitlines() if "modelshelf" in line]
    assert commands.pop().endswith("modelshelf serve")
    monkeypatch.chdir(tmp_path)
    for name, value in environment(tmp_path / "root", "http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, (command, capsys.readouterr())
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["starter-base-3.png"]


def test_the_explanation_shown_is_what_the_command_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ((command, shown),) = re.findall(r"```console\n\$ (modelshelf probe .* --explain)\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == shown
