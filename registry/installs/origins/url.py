"""One file behind an https address."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from email.message import Message
from functools import cached_property
from pathlib import PurePosixPath, PureWindowsPath
from typing import Self
from urllib.parse import unquote, urlsplit

import httpx

from probes import REMOTE_PREFIX
from registry.errors import FileMissing, ModelshelfError, Refused
from registry.installs.origins.access import Access
from registry.installs.origins.base import Listing, RangeUnsatisfiable, RemoteFile, Stream, checked, is_plain
from registry.installs.origins.http import HttpFiles, strong_etag, total_size
from registry.sources import UrlSource, without_signature

ASIDE_SECONDS = (
    5.0  # without a byte, for what an install can do without: records and pictures must not hold it up for minutes
)


class UrlOrigin:
    """A listing of one file. No digest is announced; If-Range keeps one origin's reads to one version of the file."""

    reads_in_parallel = True

    def __init__(
        self,
        source: UrlSource,
        *,
        timeout: float,
        access: Access,
        check: Callable[[], None],
        home: str = "",
        token: str | None = None,
    ) -> None:
        self._url = source.url
        self._access = access
        self._host = urlsplit(source.url).hostname or ""
        access.check_host(self._host)
        self._files, self._aside = (
            HttpFiles(timeout=seconds, access=access, refusal=self._refusal, check=check, home=home, token=token)
            for seconds in (timeout, min(timeout, ASIDE_SECONDS))
        )

    def listing(self) -> Listing:
        return self._facts[0]

    def read(self, file: RemoteFile, start: int, length: int) -> bytes:
        listing, prefix = self._facts
        if start + length <= len(prefix) or len(prefix) == file.size:
            return prefix[start : start + length]
        return self._files.read(self._url, start, length, listing.files[0].etag)

    def stream(
        self, file: RemoteFile, start: int = 0, end: int | None = None, etag: str | None = None
    ) -> AbstractContextManager[Stream]:
        return self._files.stream(self._url, start, end, etag or self._facts[0].files[0].etag)

    def fetch(self, url: str, limit: int) -> bytes:
        """What is behind another address on this host, on one below it (image.example.com) or on an allowed one; `limit` in bytes.

        Raises HostRefused, Refused, HubUnreachable.
        """
        host = urlsplit(url).hostname or ""
        if not host.endswith(f".{self._host}"):
            self._access.check_host(host)
        body = self._aside.read(url, 0, limit + 1)
        if len(body) > limit:
            raise Refused(f"{without_signature(url)} has more than {limit:,} bytes.")
        return body

    def close(self) -> None:
        self._files.close()
        self._aside.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @cached_property
    def _facts(self) -> tuple[Listing, bytes]:
        return self._look()

    def _look(self) -> tuple[Listing, bytes]:
        """The listing and the file's first bytes, from one GET: addresses signed for GET refuse HEAD, and a header is
        what is read next."""
        name, prefix, etag = self._name_in_url(), b"", None
        size: int | None = 0
        with suppress(RangeUnsatisfiable):  # of byte 0: the file is empty
            response, prefix = self._files.fetch(self._url, 0, REMOTE_PREFIX)
            name, size, etag = file_name(response) or name, total_size(response), strong_etag(response)
        file = RemoteFile(checked(name, self._url), size, None, etag=etag)
        return Listing(without_signature(self._url), None, None, (file,), None, file.path), prefix

    def _name_in_url(self) -> str:
        return PurePosixPath(unquote(urlsplit(self._url).path)).name

    def _refusal(self, response: httpx.Response) -> ModelshelfError:
        asked = response.history[0].request.url if response.history else response.request.url
        if response.status_code in (404, 410):
            return FileMissing(
                f"{asked.host} has no file at {without_signature(str(asked))}.", status=response.status_code
            )
        return Refused(
            f"{asked.host} does not hand out {without_signature(str(asked))} ({response.status_code} {response.reason_phrase}). "
            "Download it in a browser, and install the file by its path.",
            status=response.status_code,
        )


def file_name(response: httpx.Response) -> str | None:
    """The last part of Content-Disposition's file name, if it is one; model sites name the file there and not in the address."""
    header = Message()
    header["Content-Disposition"] = response.headers.get("Content-Disposition", "")
    name = PureWindowsPath(header.get_filename() or "").name  # behind separators of every system
    return name if is_plain(name) else None
