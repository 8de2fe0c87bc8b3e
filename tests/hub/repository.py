"""A folder seen as a Hub repository: git object ids, LFS pointers and a commit that follow from its content alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import yaml

LFS_SUFFIXES = frozenset({".safetensors", ".gguf", ".ckpt", ".pt", ".pth", ".bin", ".onnx", ".msgpack", ".h5"})
"""Weight files, as in the .gitattributes that the Hub gives every new repository."""
DATE = "2026-01-01T00:00:00.000Z"
"""Of every commit, so that its id depends on the content only."""
REVISION_MARK = "@"


def git_id(kind: str, body: bytes) -> str:
    """The SHA-1 that git gives an object."""
    return hashlib.sha1(f"{kind} {len(body)}\0".encode() + body).hexdigest()


@lru_cache(maxsize=4096)
def _digests(path: Path, size: int, changed: int) -> tuple[str, str]:
    """(git blob id, SHA-256) of a file; `size` and `changed` (ns) make the cache forget an older version."""
    body = path.read_bytes()
    return git_id("blob", body), hashlib.sha256(body).hexdigest()


@dataclass(frozen=True)
class Blob:
    """One file. `oid` is git's id of what git stores: the file, or its LFS pointer."""

    name: str
    path: Path
    size: int
    oid: str
    sha256: str | None
    pointer_size: int | None

    @property
    def etag(self) -> str:
        """SHA-256 of an LFS file, git's SHA-1 of any other."""
        return self.sha256 or self.oid

    @classmethod
    def read(cls, name: str, path: Path) -> Blob:
        stat = path.stat()
        oid, sha256 = _digests(path.resolve(), stat.st_size, stat.st_mtime_ns)
        if path.suffix not in LFS_SUFFIXES:
            return cls(name, path, stat.st_size, oid, None, None)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {stat.st_size}\n".encode()
        return cls(name, path, stat.st_size, git_id("blob", pointer), sha256, len(pointer))

    def sibling(self) -> dict[str, Any]:
        """As in model info with blobs=true."""
        facts: dict[str, Any] = {"rfilename": self.name, "size": self.size, "blobId": self.oid}
        if self.sha256:
            facts["lfs"] = {"sha256": self.sha256, "size": self.size, "pointerSize": self.pointer_size}
        return facts

    def entry(self) -> dict[str, Any]:
        """As in tree and paths-info."""
        facts: dict[str, Any] = {"type": "file", "path": self.name, "size": self.size, "oid": self.oid}
        if self.sha256:
            facts["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": self.pointer_size}
        return facts


@dataclass(frozen=True)
class Revision:
    """The content of one folder at one moment."""

    repo_id: str
    blobs: dict[str, Blob]

    @classmethod
    def read(cls, repo_id: str, folder: Path) -> Revision:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = {path.relative_to(folder).as_posix(): path for path in files}
        return cls(repo_id, {name: Blob.read(name, path) for name, path in names.items()})

    @cached_property
    def trees(self) -> dict[str, str]:
        """git's tree id of every folder; "" is the root."""
        ids: dict[str, str] = {}
        folders = {str(parent) for name in self.blobs for parent in Path(name).parents} | {"."}
        for folder in sorted(folders, key=lambda name: -len(Path(name).parts)):
            entries = [
                (Path(b.name).name, "100644", b.oid) for b in self.blobs.values() if str(Path(b.name).parent) == folder
            ]
            # git sorts a folder as if its name ended in a slash.
            entries += [
                (f"{Path(name).name}/", "40000", oid) for name, oid in ids.items() if str(Path(name).parent) == folder
            ]
            lines = (
                f"{mode} {name.rstrip('/')}\0".encode() + bytes.fromhex(oid) for name, mode, oid in sorted(entries)
            )
            ids[folder] = git_id("tree", b"".join(lines))
        return {"" if folder == "." else folder: oid for folder, oid in ids.items()}

    @cached_property
    def commit(self) -> str:
        """40 hex digits; the same for the same content of the same repository."""
        stamp = "loopback <hub@localhost> 1767225600 +0000"  # DATE
        body = f"tree {self.trees['']}\nauthor {stamp}\ncommitter {stamp}\n\n{self.repo_id}\n"
        return git_id("commit", body.encode())

    @property
    def card(self) -> dict[str, Any] | None:
        """README.md's front matter."""
        readme = self.blobs.get("README.md")
        if readme is None:
            return None
        start, *rest = readme.path.read_text(encoding="utf-8").split("---\n", 2)
        return yaml.safe_load(rest[0]) if not start.strip() and len(rest) == 2 else None


class Shelf:
    """`root`/OWNER/REPO is a repository's branch main; REPO@REV beside it its branch or tag REV ("/" in it as %2F)."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def has(self, repo_id: str) -> bool:
        return REVISION_MARK not in repo_id and self._folder(repo_id, "main").is_dir()

    def revision(self, repo_id: str, name: str) -> Revision | None:
        """By branch, tag or commit; None when there is no such revision."""
        folder = self._folder(repo_id, name)
        if folder.is_dir():
            return Revision.read(repo_id, folder)
        main = self._folder(repo_id, "main")
        folders = [main, *main.parent.glob(f"{main.name}{REVISION_MARK}*")]
        revisions = (Revision.read(repo_id, each) for each in folders)
        return next((each for each in revisions if each.commit == unquote(name)), None)

    def _folder(self, repo_id: str, revision: str) -> Path:
        owner, name = repo_id.split("/")
        mark = "" if revision == "main" else REVISION_MARK + quote(revision, safe="")
        return self._root / owner / f"{name}{mark}"
