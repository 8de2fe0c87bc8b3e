"""Whatever a model is called, its file can be written, on every system, where it belongs."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.installs.names import LONGEST, file_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ink-outline_v1.2", "ink-outline_v1.2"),
        ("Ink Outline (v2)", "Ink-Outline-v2"),
        ("../../etc/passwd", "etc-passwd"),
        ("a/b\\c:d", "a-b-c-d"),
        ("..", "model"),
        ("", "model"),
        ("...hidden...", "hidden"),
        ("trailing. ", "trailing"),
        ("CON", "_CON"),
        ("nul.v2", "_nul.v2"),
        ("com1", "_com1"),
        ("LPT¹", "_LPT¹"),
        ("console", "console"),
        ("e\u0301tude", "\u00e9tude"),
        ("墨线 風格", "墨线-風格"),
        ("gnp\u202e.exe", "gnp-.exe"),
        ("zero\u200bwidth\ufeff", "zero-width"),
        ("line\nbreak\x00\x1b[31m", "line-break-31m"),
        ("x" * 300, "x" * LONGEST),
        ("é" * 300, "é" * (LONGEST // 2)),
        ("🙂", "model"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert file_name(text) == name


@given(st.text(max_size=400))
def test_of_whatever_text(text: str) -> None:
    name = file_name(text)
    assert 0 < len(name.encode()) <= LONGEST + 1
    assert PurePosixPath(name).name == PureWindowsPath(name).name == name
    assert not PureWindowsPath(f"{name}.safetensors").is_reserved()
    assert not name.startswith((".", "-"))
    assert not name.endswith((".", " "))
    assert name.isprintable()
    assert unicodedata.is_normalized("NFC", name)
    assert file_name(name).lstrip("_") == name.lstrip("_")
