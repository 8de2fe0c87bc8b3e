"""`make demo`, as a newcomer runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_demo_shows_the_whole_product(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.demo", str(tmp_path / "out")]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MODELSHELF_", "HF_"))}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("installed  https://huggingface.co/") == 6
    assert done.stdout.count("refused    https://huggingface.co/") == 7
    for code in ("unusable_file", "gated_repository", "no_weights", "repository_not_found", "invalid_source"):
        assert code in done.stdout
    for row in ("style at 0.5", "base, 4 steps", "LCM-LoRA, 4 steps", "LCM-LoRA and style"):
        assert row in done.stdout
    assert f"MODELSHELF_ROOT={tmp_path / 'out/root'} " in done.stdout
    assert "open http://127.0.0.1:8420/ in a browser" in done.stdout
    with Image.open(tmp_path / "out" / "contact-sheet.png") as sheet:
        assert sheet.width > 800
        assert sheet.height > 1000
