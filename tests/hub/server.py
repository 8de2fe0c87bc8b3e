"""The Hub's HTTP API (model info, tree, paths-info, resolve) and, on a second port, the storage it redirects to."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mmap import ACCESS_READ, mmap
from pathlib import Path
from select import select
from socket import MSG_PEEK, SHUT_RDWR, socket
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.hub.repository import DATE, Blob, Revision, Shelf

HEARTBEAT = 0.02  # seconds between two pieces of a slowed answer
PIECE = 1 << 20  # bytes sent at a time otherwise


@dataclass
class Seen:
    """One request, from its arrival on. `server`: "hub" or "storage"; `authorized`: with an Authorization header; `sent`: bytes of body.

    Recorded before the answer and counted before each write, so that a client that has its answer finds it here.
    """

    server: str
    method: str
    path: str
    range: str | None
    authorized: bool
    status: int = 0
    sent: int = 0


@dataclass
class Fault:
    """What goes wrong with one file ("OWNER/REPO/FILE"); `fail_next`, `retry_after`, `says` with a repository's API ("OWNER/REPO")."""

    bytes_per_second: int | None = None
    cut_after: int | None = None
    """Bytes of an answer's body after which the connection is closed."""
    cuts: int = 1_000_000
    """How many answers are cut."""
    stalls: bool = False
    """An answer that would be cut stays open instead, and silent until the client leaves."""
    corrupt: bool = False
    """One byte in the file's middle is another; the announced digest stays."""
    extra: int = 0
    """Zero bytes sent beyond the file's end, with a Content-Length that owns up to them."""
    fail_next: int = 0
    """Requests answered with `status`."""
    status: int = 503
    retry_after: str | None = None
    """The header of those answers."""
    says: bytes | None = None
    """What the API answers instead."""
    ignores_range: bool = False
    """Answers 200 with the whole file."""
    piece: int | None = None
    """Most bytes of a range that are answered, and owned up to, however many were asked for."""
    chunked: bool = False
    """No Content-Length and no X-Linked-Size: the length shows only at the end."""


@dataclass
class LoopbackHub:
    """Serves `root`/OWNER/REPO on loopback while it is entered.

    `gated`: repositories whose files need a token that opens them; `private`: repositories that do not exist without
    one; `tokens`: what each token opens. An unknown token is refused everywhere, as on the Hub. `faults` may be
    changed at any time; `seen` holds every request in order.
    """

    root: Path
    gated: Collection[str] = ()
    private: Collection[str] = ()
    tokens: Mapping[str, Collection[str]] = field(default_factory=dict)
    port: int = 0
    faults: dict[str, Fault] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shelf = Shelf(self.root)
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self._servers: list[_Server] = []

    @property
    def endpoint(self) -> str:
        """For HF_ENDPOINT."""
        return self._servers[0].address

    @property
    def storage(self) -> str:
        """The second origin."""
        return self._servers[1].address

    def __enter__(self) -> Self:
        self._servers = [_Server(self.port, partial(_HubHandler, self)), _Server(0, partial(_StorageHandler, self))]
        for server in self._servers:
            server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        for server in self._servers:
            server.stop()

    def signature(self, path: str) -> str:
        """What the storage wants to see in an address: only the hub hands it out."""
        return hashlib.sha256(f"{id(self)} {path}".encode()).hexdigest()[:16]

    def take_failure(self, key: str) -> Fault | None:
        """What to fail with now, if `key` has failures left."""
        with self.lock:
            fault = self.faults.get(key)
            if fault is None or fault.fail_next == 0:
                return None
            fault.fail_next -= 1
            return fault

    def take_cut(self, fault: Fault) -> int | None:
        with self.lock:
            if fault.cut_after is None or fault.cuts == 0:
                return None
            fault.cuts -= 1
            return fault.cut_after


class _Server(ThreadingHTTPServer):
    """Knows its connections, so that stopping ends those that clients keep alive."""

    daemon_threads = False  # stop() waits for every answer to have ended

    def __init__(self, port: int, handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self._connections: set[socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.005})

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        for connection in list(self._connections):
            try:
                connection.shutdown(SHUT_RDWR)
            except OSError:  # ended by itself meanwhile
                continue
        self.server_close()
        self._thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may leave in the middle of an answer: that is what half of the tests do."""


class _Answered(Exception):
    """The request has its answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name = ""

    def __init__(self, hub: LoopbackHub, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """`hub.seen` is the log."""

    def route(self) -> None:
        raise NotImplementedError

    def _serve(self) -> None:
        address = urlsplit(self.path)
        self.parts, self.query = address.path.strip("/").split("/"), parse_qs(address.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        ranges, authorized = self.headers.get("Range"), "Authorization" in self.headers
        self.record = Seen(self.name, self.command, self.path, ranges, authorized)
        self.hub.seen.append(self.record)
        with suppress(_Answered):
            self.route()

    def write(self, body: bytes | memoryview) -> None:
        self.record.sent += len(body)
        try:
            self.wfile.write(body)
        except OSError:
            self.record.sent -= len(body)
            raise

    def answer(self, status: int, body: bytes = b"", **headers: str | None) -> None:
        """Headers by keyword, _ for -; None leaves one out. Ends the handling."""
        self.record.status = status
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD" and body:
            self.write(body)
        raise _Answered

    def say(self, value: Any, status: int = 200, **headers: str | None) -> None:
        self.answer(status, json.dumps(value, default=str).encode(), Content_Type="application/json", **headers)

    def refuse(self, status: int, code: str | None, message: str, **headers: str | None) -> None:
        self.say({"error": message}, status, X_Error_Message=message, X_Error_Code=code, **headers)

    def send_file(self, blob: Blob, fault: Fault, **headers: str) -> None:
        """The file or the range asked for, with the file's faults."""
        body = _body(blob.path)
        if fault.corrupt or fault.extra:
            body = bytearray(body) + bytes(fault.extra)
        if fault.corrupt:
            body[blob.size // 2] ^= 0xFF
        total, etag = len(body), f'"{blob.etag}"'
        headers |= {"ETag": etag, "Accept_Ranges": "bytes"}
        status, start, end = 200, 0, total
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", etag) == etag
        if wanted and same and not fault.ignores_range:
            first, last = wanted[1], wanted[2]
            start = int(first) if first else max(0, total - int(last))
            end = min(total, int(last) + 1) if first and last else total
            end = min(end, start + (fault.piece or total))
            if start >= total:
                self.answer(416, Content_Range=f"bytes */{total}")
            status, headers["Content_Range"] = 206, f"bytes {start}-{end - 1}/{total}"
        self.record.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.close_connection = fault.chunked
        self.send_header(*(("Connection", "close") if fault.chunked else ("Content-Length", str(end - start))))
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(memoryview(body)[start:end], fault)
        raise _Answered

    def _send_body(self, body: memoryview, fault: Fault) -> None:
        cut = self.hub.take_cut(fault)
        rest = body if cut is None else body[:cut]
        step = PIECE if fault.bytes_per_second is None else max(1, int(fault.bytes_per_second * HEARTBEAT))
        while rest and not self.hub.closing.is_set():
            self.write(rest[:step])
            rest = rest[step:]
            if fault.bytes_per_second is not None:
                time.sleep(HEARTBEAT)
        if self.record.sent < len(body):
            self.close_connection = True
            while fault.stalls and not self.hub.closing.wait(HEARTBEAT) and not self._client_has_left():
                continue

    def _client_has_left(self) -> bool:
        readable, _, _ = select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, MSG_PEEK)


def _body(path: Path) -> bytes | mmap | bytearray:
    """A file's bytes, of which only those sent are read: checkpoints of their true size are holes of several GB."""
    with path.open("rb") as file:
        return mmap(file.fileno(), 0, access=ACCESS_READ) if path.stat().st_size else b""


class _HubHandler(_Handler):
    name = "hub"

    def route(self) -> None:
        self._check_token()
        match [unquote(part) for part in self.parts]:
            case ["api", "models", owner, name]:
                self._model_info(f"{owner}/{name}", "main")
            case ["api", "models", owner, name, "revision", revision]:
                self._model_info(f"{owner}/{name}", revision)
            case ["api", "models", owner, name, "tree", revision, *path]:
                self._tree(f"{owner}/{name}", revision, "/".join(path))
            case ["api", "models", owner, name, "paths-info", revision] if self.command == "POST":
                self._paths_info(f"{owner}/{name}", revision)
            case [owner, name, "resolve", revision, *path]:
                self._resolve(f"{owner}/{name}", revision, "/".join(path))
        self.refuse(404, None, "Sorry, we can't find the page you are looking for.")

    def _model_info(self, repo_id: str, name: str) -> None:
        revision = self._revision(repo_id, name)
        if (says := self.hub.faults.get(repo_id, Fault()).says) is not None:
            self.answer(200, says, Content_Type="application/json")
        card = revision.card or {}
        with_blobs = self.query.get("blobs", ["false"])[0].lower() == "true"
        siblings = [blob.sibling() if with_blobs else {"rfilename": blob.name} for blob in revision.blobs.values()]
        self.say(
            {
                "_id": revision.trees[""][:24],
                "id": repo_id,
                "modelId": repo_id,
                "author": repo_id.split("/")[0],
                "sha": revision.commit,
                "createdAt": DATE,
                "lastModified": DATE,
                "private": repo_id in self.hub.private,
                "gated": "auto" if repo_id in self.hub.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": card.get("tags") or [],
                "library_name": card.get("library_name"),
                "pipeline_tag": card.get("pipeline_tag"),
                "cardData": card,
                "siblings": siblings,
            }
        )

    def _tree(self, repo_id: str, name: str, path: str) -> None:
        revision = self._revision(repo_id, name)
        prefix = f"{path}/" if path else ""
        folders = [
            {"type": "directory", "path": name, "size": 0, "oid": oid} for name, oid in revision.trees.items() if name
        ]
        entries = [
            entry
            for entry in folders + [b.entry() for b in revision.blobs.values()]
            if entry["path"].startswith(prefix)
        ]
        if self.query.get("recursive", ["false"])[0].lower() != "true":
            entries = [entry for entry in entries if "/" not in entry["path"][len(prefix) :]]
        if not entries:
            self.refuse(404, "EntryNotFound", f"{path} does not exist on {name!r}")
        self.say(sorted(entries, key=lambda entry: str(entry["path"])))

    def _paths_info(self, repo_id: str, name: str) -> None:
        as_json = "json" in self.headers.get("Content-Type", "")
        paths = json.loads(self.body)["paths"] if as_json else parse_qs(self.body.decode())["paths"]
        revision = self._revision(repo_id, name)
        folders = {
            path: {"type": "directory", "path": path, "size": 0, "oid": oid} for path, oid in revision.trees.items()
        }
        known = folders | {blob.name: blob.entry() for blob in revision.blobs.values()}
        self.say([known[path] for path in paths if path in known])

    def _resolve(self, repo_id: str, name: str, path: str) -> None:
        revision = self._revision(repo_id, name)
        self._check_gate(repo_id)
        if (blob := revision.blobs.get(path)) is None:
            self.refuse(404, "EntryNotFound", "Entry not found")
        assert blob is not None
        self._fail(f"{repo_id}/{path}")
        fault = self.hub.faults.get(f"{repo_id}/{path}", Fault())
        if blob.sha256 is None:
            self.send_file(blob, fault, X_Repo_Commit=revision.commit, Content_Type="text/plain; charset=utf-8")
        file = f"/repos/{repo_id}/{revision.commit}/{quote(path)}"
        self.answer(
            302,
            Location=f"{self.hub.storage}{file}?Signature={self.hub.signature(file)}",
            X_Repo_Commit=revision.commit,
            X_Linked_Etag=f'"{blob.sha256}"',
            X_Linked_Size=None if fault.chunked else str(blob.size),
            ETag=f'"{blob.sha256}"',
        )

    def _revision(self, repo_id: str, name: str) -> Revision:
        """The repository's content, after every check that the Hub makes on the way to it."""
        self._fail(repo_id)
        if not self.hub.shelf.has(repo_id) or (repo_id in self.hub.private and repo_id not in self._opened()):
            # To strangers the Hub does not tell a missing repository from a private one.
            self.refuse(404 if self._token() else 401, "RepoNotFound", "Repository not found")
        revision = self.hub.shelf.revision(repo_id, name)
        if revision is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
        assert revision is not None
        return revision

    def _fail(self, key: str) -> None:
        if fault := self.hub.take_failure(key):
            self.refuse(
                fault.status,
                None,
                "Internal Error - We're working hard to fix this as soon as possible!",
                Retry_After=fault.retry_after,
            )

    def _token(self) -> str | None:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if kind == "Bearer" else None

    def _opened(self) -> Collection[str]:
        token = self._token()
        return self.hub.tokens[token] if token else ()

    def _check_token(self) -> None:
        if (token := self._token()) and token not in self.hub.tokens:
            self.refuse(401, None, "Invalid credentials in Authorization header")

    def _check_gate(self, repo_id: str) -> None:
        if repo_id in self.hub.gated and repo_id not in self._opened():
            message = f"Access to model {repo_id} is restricted and you are not in the authorized list."
            self.refuse(403 if self._token() else 401, "GatedRepo", message)


class _StorageHandler(_Handler):
    """Knows no accounts, only signed addresses; an Authorization header that comes here has leaked."""

    name = "storage"

    def route(self) -> None:
        address = urlsplit(self.path)
        if self.query.get("Signature") != [self.hub.signature(address.path)]:
            self.answer(403, b"<Error><Code>AccessDenied</Code></Error>", Content_Type="application/xml")
        _, owner, name, commit, *path = (unquote(part) for part in self.parts)
        repo_id, file = f"{owner}/{name}", "/".join(path)
        revision = self.hub.shelf.revision(repo_id, commit)
        if revision is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>", Content_Type="application/xml")
        assert revision is not None
        fault = self.hub.faults.get(f"{repo_id}/{file}", Fault())
        disposition = f'attachment; filename="{Path(file).name}"'
        self.send_file(
            revision.blobs[file], fault, Content_Type="application/octet-stream", Content_Disposition=disposition
        )
