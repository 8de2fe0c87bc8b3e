"""Civitai's HTTP API on loopback, as far as installing speaks it: downloads by version, and what is known of a file by its hash."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

from tests.hub.repository import Blob
from tests.hub.server import Fault, Seen, _Handler, _Server

DELIVERY = "/delivery"


@dataclass
class LoopbackCivitai:
    """Serves `files`, version id -> file, while it is entered; `known`: version id -> what is answered of it besides the files.

    `token`: without it downloads are refused. `images`: by name, at /images/. `faults` are by version id, as a text, and of the questions
    "version" and "by-hash". A download redirects, as the real one does, to an
    address that takes no Authorization.
    """

    files: dict[int, Path] = field(default_factory=dict)
    known: dict[int, dict[str, Any]] = field(default_factory=dict)
    token: str | None = None
    images: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self._servers: list[_Server] = []

    @property
    def endpoint(self) -> str:
        return self._servers[0].address

    @property
    def delivery(self) -> str:
        return self._servers[1].address

    def __enter__(self) -> Self:
        self._servers = [_Server(0, partial(_CivitaiHandler, self)), _Server(0, partial(_CivitaiHandler, self))]
        for server in self._servers:
            server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        for server in self._servers:
            server.stop()

    def take_cut(self, fault: Fault) -> int | None:
        with self.lock:
            if fault.cut_after is None or fault.cuts == 0:
                return None
            fault.cuts -= 1
            return fault.cut_after

    def url(self, version: int) -> str:
        return f"{self.endpoint}/api/download/models/{version}"


class _CivitaiHandler(_Handler):
    name = "civitai"
    hub: LoopbackCivitai  # type: ignore[assignment]

    def route(self) -> None:
        match self.parts:
            case ["api", "download", "models", version] if int(version) in self.hub.files:
                if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
                    self.say({"error": "Unauthorized"}, 401)
                location = f"{self.hub.delivery}{DELIVERY}/{version}?X-Amz-Signature=0&X-Amz-Expires=86400"
                self.answer(307, Location=location)
            case ["delivery", version]:
                self._deliver(version)
            case ["api", "v1", "model-versions", "by-hash", digest]:
                self._by_hash(digest.lower())
            case ["api", "v1", "model-versions", version] if int(version) in self.hub.files:
                self._fail("version")
                self.say(self._record(int(version)))
            case ["api", "v1", "models", model]:
                versions = [{"id": v} for v in sorted(self.hub.files, reverse=True) if str(v * 10) == model]
                self.say({"id": int(model), "modelVersions": versions}, 200 if versions else 404)
            case ["images", name] if name in self.hub.images:
                self.answer(200, self.hub.images[name], Content_Type="image/png")
        self.say({"error": "Not found"}, 404)

    def _deliver(self, version: str) -> None:
        path = self.hub.files[int(version)]
        fault = self.hub.faults.get(version, Fault())
        blob = Blob.read(path.name, path)
        self.send_file(blob, fault, Content_Disposition=f'attachment; filename="{path.name}"')

    def _by_hash(self, digest: str) -> None:
        self._fail("by-hash")
        for version in self.hub.files:
            if digest == self._sha256(version):
                self.say(self._record(version))

    def _record(self, version: int) -> dict[str, Any]:
        """Of the version, with another file that one may choose there."""
        files = [
            {"name": self.hub.files[version].name, "hashes": {"SHA256": self._sha256(version).upper()}},
            {"name": "training.zip", "hashes": {"SHA256": "00" * 32}},
        ]
        return {"id": version, "modelId": version * 10, "files": files, **self.hub.known.get(version, {})}

    def _sha256(self, version: int) -> str:
        return hashlib.sha256(self.hub.files[version].read_bytes()).hexdigest()

    def _fail(self, what: str) -> None:
        if (fault := self.hub.faults.get(what)) is not None:
            self.say({"error": "Internal"}, fault.status)
