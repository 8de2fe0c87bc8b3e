"""Ranged reads over HTTP: retries, redirects, and what a server's answer means for a transfer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import httpx

from registry.errors import DownloadIncomplete, HubUnreachable
from registry.installs.origins.base import RangeIgnored, RangeUnsatisfiable

BACKOFF_SECONDS = (0.3, 1.0, 2.5)
"""Pauses before the retries: enough for a proxy that restarts; somebody offline is told within four seconds."""

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")

T = TypeVar("T")


class Transient(Exception):
    """What a little patience may cure: no connection, a time-out, 408, 429, 5xx. Its text is the reason, for people."""


def is_transient(status: int) -> bool:
    return status in (408, 429) or status >= 500


def patiently(call: Callable[[], T], host: str) -> T:
    """`call()`, again after each pause of BACKOFF_SECONDS while it raises Transient; then HubUnreachable."""
    for pause in BACKOFF_SECONDS:
        try:
            return call()
        except Transient:
            time.sleep(pause)
    try:
        return call()
    except Transient as error:
        raise HubUnreachable(
            f"{host} cannot be reached: {error}. Check the connection, or try again later.", host=host
        ) from error


class HttpFiles:
    """One client for many files. Of `headers`, Authorization goes no further than the first host (httpx, on redirects).

    `refusal` turns a 4xx answer into the error that tells the user.
    """

    def __init__(
        self, *, timeout: float, headers: Mapping[str, str], refusal: Callable[[httpx.Response], Exception]
    ) -> None:
        # identity: a compressed answer has neither the announced size nor usable offsets.
        self._client = httpx.Client(
            timeout=timeout,
            follow_redirects=True,
            headers={"User-Agent": "modelshelf", "Accept-Encoding": "identity", **headers},
        )
        self._refusal = refusal

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def open(self, url: str, ranges: str | None = None, etag: str | None = None) -> Iterator[httpx.Response]:
        """The answer to a GET, its body unread. `ranges`: a Range header, meant for the version `etag` only."""
        headers = {"Range": ranges} if ranges else {}
        if ranges and etag:
            headers["If-Range"] = etag
        request = self._client.build_request("GET", url, headers=headers)
        response = patiently(lambda: self._send(request), request.url.host)
        try:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise RangeUnsatisfiable(total_size(response))
            if not response.is_success:
                raise self._refusal(response)
            yield response
        finally:
            response.close()

    def read(self, url: str, start: int, length: int, etag: str | None = None) -> bytes:
        """At most `length` bytes from `start`, fewer where the file ends."""
        try:
            return self.fetch(url, start, length, etag)[1]
        except RangeUnsatisfiable:
            return b""

    def fetch(self, url: str, start: int, length: int, etag: str | None = None) -> tuple[httpx.Response, bytes]:
        """As `read`, with the answer that the bytes came in; raises RangeUnsatisfiable."""

        def once() -> tuple[httpx.Response, bytes]:
            body = bytearray()
            with self.open(url, f"bytes={start}-{start + length - 1}", etag) as response:
                skip = 0 if range_start(response) == start else start
                try:
                    for chunk in response.iter_bytes():
                        body += chunk
                        if len(body) >= skip + length:
                            break
                except httpx.RequestError as error:
                    raise Transient(_reason(error)) from error
            return response, bytes(body[skip : skip + length])

        return patiently(once, httpx.URL(url).host)

    @contextmanager
    def stream(self, url: str, start: int, etag: str | None = None) -> Iterator[Iterator[bytes]]:
        """The bytes from `start` on. Raises RangeIgnored, RangeUnsatisfiable; iterating raises DownloadIncomplete."""
        with self.open(url, f"bytes={start}-" if start else None, etag) as response:
            if start and range_start(response) != start:
                raise RangeIgnored
            yield _chunks(response)

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            response = self._client.send(request, stream=True)
        except (httpx.TooManyRedirects, httpx.UnsupportedProtocol) as error:
            raise HubUnreachable(f"{request.url.host} redirects to nowhere: {error}", host=request.url.host) from error
        except httpx.TransportError as error:
            raise Transient(_reason(error)) from error
        if request.url.scheme == "https" and response.url.scheme != "https":
            response.close()
            raise HubUnreachable(
                f"{request.url.host} redirects to http://{response.url.host}, which could be anybody's."
            )
        if is_transient(response.status_code):
            response.close()
            raise Transient(f"it answers {response.status_code} {response.reason_phrase}")
        return response


def range_start(response: httpx.Response) -> int:
    """The offset that the body begins at."""
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return 0
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    return int(found[1]) if found and found[1] else -1


def total_size(response: httpx.Response) -> int | None:
    """Length of the whole file in bytes, as this answer to a Range request tells it."""
    if found := _CONTENT_RANGE.match(response.headers.get("Content-Range", "")):
        return None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return int(length) if response.status_code == httpx.codes.OK and length.isdecimal() else None


def _chunks(response: httpx.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_bytes()
    except httpx.RequestError as error:
        raise DownloadIncomplete(f"The connection to {response.url.host} broke: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
