"""Sources that cannot be installed, and the error that every way in must tell: one table for registry, REST and command line."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.demo.strangers import sd15_lora, write

GATED = "somebody/gated"
# source, code, HTTP status
BAD_SOURCES = [
    ("somebody/web-page", "unusable_file", 415),
    ("somebody/cut-off", "unusable_file", 415),
    ("somebody/pickle", "unusable_file", 415),
    ("somebody/pickle-in-disguise", "unusable_file", 415),
    ("somebody/empty", "unusable_file", 415),
    ("somebody/lfs-pointer", "unusable_file", 415),
    ("somebody/no-weights", "no_weights", 422),
    ("somebody/two", "ambiguous_choice", 409),
    ("somebody/vae", "kind_not_taken", 415),
    (GATED, "gated_repository", 403),
    ("somebody/missing", "repository_not_found", 404),
    ("hf://modelshelf/starter-outline-lora@no-such-branch", "revision_not_found", 404),
    ("https://huggingface.co/modelshelf/starter-outline-lora/blob/main/no-such.safetensors", "file_not_found", 404),
    ("https://huggingface.co/datasets/somebody/pictures", "invalid_source", 422),
    ("/no/such/file.safetensors", "file_not_found", 404),
    ("not a source", "invalid_source", 422),
    ("ftp://example.com/x.safetensors", "invalid_source", 422),
    ("x" * 5000, "invalid_source", 422),
]


def add_bad_sources(shelf: Path, starter: Path) -> None:
    """Write the repositories of BAD_SOURCES into a hub's folder; the hub must gate GATED."""
    whole = sd15_lora()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    write(shelf / "somebody/web-page/model.safetensors", b"<!DOCTYPE html><html><body>Sign in</body></html>")
    write(shelf / "somebody/cut-off/model.safetensors", whole[: len(whole) // 2])
    write(shelf / "somebody/pickle/model.ckpt", b"\x80\x02}q\x00.")
    write(shelf / "somebody/pickle-in-disguise/model.safetensors", b"\x80\x02}q\x00." * 20)
    write(shelf / "somebody/empty/model.safetensors", b"")
    write(shelf / "somebody/lfs-pointer/model.safetensors", pointer)
    write(shelf / "somebody/no-weights/README.md", b"# Soon")
    write(shelf / "somebody/two/a.safetensors", whole)
    write(shelf / "somebody/two/b.safetensors", whole)
    write(shelf / f"{GATED}/model.safetensors", whole)
    shutil.copytree(starter / "modelshelf/starter-base/vae", shelf / "somebody/vae", dirs_exist_ok=True)


def files_below(folder: Path) -> set[str]:
    """Every file and folder below `folder`, but the database and its locks, which are there from the start."""
    if not folder.exists():
        return set()
    everything = {p.relative_to(folder).as_posix() for p in folder.rglob("*")}
    return {p for p in everything if not p.startswith(("modelshelf.db", ".downloads/locks")) and p != ".downloads"}
