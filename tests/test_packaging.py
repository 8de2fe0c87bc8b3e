"""What a wheel carries beside the code: the starter models and the migrations."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_a_wheel_is_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("modelshelf-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    starter = "registry/starter/repos/modelshelf"
    assert {
        f"{starter}/starter-base/model_index.json",
        f"{starter}/starter-base/starter-base.safetensors",
        f"{starter}/starter-lcm-lora/pytorch_lora_weights.safetensors",
        f"{starter}/starter-lcm-lora/README.md",
        "registry/backends/diffusers/clip/merges.txt.gz",
        "registry/backends/diffusers/clip/LICENSE",
        "registry/weights/fused.c",
        "registry/_alembic/env.py",
        "api/page/index.html",
        "api/page/app.js",
        "api/page/base.css",
        "api/page/icon.svg",
        "registry/_alembic/versions/0001_models_and_installs.py",
        "api/cli/__init__.py",
    } <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"api", "probes", "registry", "modelshelf"}
