"""The scenarios of faults.py, each once or a few times; the README shows the figures of the long run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.installs.options import Place
from tests.registry.installs import faults

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[faults.Stage]:
    made = faults.Stage(tmp_path, size=96)
    with made.hub:
        yield made


def can_mount() -> bool:
    command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "scenario",
    [
        lambda stage: faults.killed(stage, 3),
        lambda stage: faults.killed_while_split(stage, 1),
        lambda stage: faults.killed_at_every_step(stage, faults.BIG, every=12),
        lambda stage: faults.killed_at_every_step(stage, faults.PIPELINE, every=40),
        lambda stage: faults.killed_while_taken_in(stage, Place.MOVE, "file", every=9),
        lambda stage: faults.killed_while_taken_in(stage, Place.MOVE, "folder", every=30),
        lambda stage: faults.killed_while_taken_in(stage, Place.COPY, "file", every=15),
        lambda stage: faults.killed_while_mended(stage, every=9),
        faults.cut,
        faults.wrong_bytes,
        faults.range_ignored,
        faults.changed_etag,
        faults.statuses,
        pytest.param(
            faults.disk_full,
            marks=pytest.mark.skipif(
                not can_mount(), reason="no namespace to mount a small disk in: unshare is not allowed"
            ),
        ),
        faults.cancelled,
        faults.two_processes,
        lambda stage: faults.fifty(stage, 8),
    ],
    ids=[
        "killed",
        "killed while split",
        "killed at a step",
        "killed at a step, folder",
        "killed while a file is moved",
        "killed while a folder is moved",
        "killed while a file is copied",
        "killed while mended",
        "cut",
        "wrong bytes",
        "range ignored",
        "changed etag",
        "statuses",
        "disk full",
        "cancelled",
        "two processes",
        "many",
    ],
)
def test_every_fault_is_survived(stage: faults.Stage, scenario: object) -> None:
    row = scenario(stage)  # type: ignore[operator]
    assert row.tried > 0
    assert row.survived == row.tried, row
