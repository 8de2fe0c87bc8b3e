"""CONTRIBUTING's worked example is worked: done to a copy of the tree, as it stands on the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", PAGE, re.DOTALL))
FAMILY, FIXTURE = "probes/families/dit.py", "tests/probes/fixtures/make_dit.py"
MATRIX = """
from probes.families import dit
from probes.subject import Subject
from tests.probes import headers

matched = [name for name in headers.names() if any(s.match(Subject(headers.load(name).header)).ok for s in dit.SIGNATURES)]
assert matched == ["dit-xl-2"], matched
"""


def run(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *words], cwd=tree, env=env, capture_output=True, text=True, check=False)


def test_the_example_names_its_files() -> None:
    assert BLOCKS.keys() == {FAMILY, FIXTURE}
    assert not any((ROOT / name).exists() for name in BLOCKS), "the example has become real: choose another"


@pytest.mark.slow
def test_the_worked_example_adds_a_family(tmp_path: Path) -> None:
    for part in ("probes", "tests/probes", "tests/__init__.py", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / part, tmp_path / part)
    for name, text in BLOCKS.items():
        (tmp_path / name).write_text(text)
    made = run(tmp_path, "-m", "tests.probes.fixtures.make_dit")
    assert made.returncode == 0, made.stderr

    matrix = ("-m", "pytest", "-q", "-p", "no:randomly", "tests/probes/test_families.py", "-k", "dit-xl-2")
    before = run(tmp_path, *matrix)
    assert before.returncode == 1, before.stdout  # nothing is known of it yet

    families = tmp_path / "probes/families/__init__.py"
    text, imported = re.subn(r"(from probes\.families import \()", r"\1\n    dit,", families.read_text())
    text, listed = re.subn(r"(\nFAMILIES = \()", r"\1dit,", text)
    assert (imported, listed) == (1, 1)
    families.write_text(text)
    after = run(tmp_path, *matrix)
    assert after.returncode == 0, after.stdout
    assert "2 passed" in after.stdout
    exclusive = run(tmp_path, "-c", MATRIX)
    assert exclusive.returncode == 0, exclusive.stderr


def test_what_the_page_names_exists() -> None:
    for path in re.findall(r"`((?:probes|tests)/[\w/]+\.py)`", PAGE):
        assert (ROOT / path).exists(), path
    assert (ROOT / "tests/probes/fixtures/headers").is_dir()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", PAGE)) <= targets


def test_the_options_that_the_page_names_exist() -> None:
    from typer.main import get_command

    from api.cli import app

    options = {option for parameter in get_command(app).commands["probe"].params for option in parameter.opts}  # type: ignore[attr-defined]
    assert set(re.findall(r"--[a-z-]+", PAGE)) <= options
