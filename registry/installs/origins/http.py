"""Ranged reads over HTTP: retries, redirects, and what a server's answer means for a transfer."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx

from registry.errors import DownloadIncomplete, HubUnreachable, HubUnusable
from registry.installs.origins.access import Access
from registry.installs.origins.base import RangeIgnored, RangeUnsatisfiable, Stream
from registry.installs.origins.network import LOOK_SECONDS, GuardedTransport

BACKOFF_SECONDS = (0.3, 1.0, 2.5)
"""Pauses before the retries, each drawn from half to one and a half times it, so that many who wait do not come back at once. Enough for
a proxy that restarts; somebody offline is told within six seconds."""
RETRY_AFTER_LIMIT = 60.0  # seconds; a server that asks for a longer pause is told to the user instead
PIECES = 16
"""Answers that one read is put together from, at most: a sound server gives it in one, or two where a connection breaks."""

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")

T = TypeVar("T")


class Transient(Exception):
    """What a little patience may cure: no connection, a time-out, 408, 429, 5xx. Its text is the reason, for people.

    `after`: seconds that the server asked to wait.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


def is_transient(status: int) -> bool:
    return status in (408, 429) or status >= 500


class HttpFiles:
    """One client for many files.

    `token`: for `home` (an origin such as https://huggingface.co) alone; no redirect carries it elsewhere.
    `refusal`: turns a 4xx answer into the error that tells the user.
    `check`: called during every wait; what it raises ends the request.
    """

    def __init__(
        self,
        *,
        timeout: float,
        access: Access,
        refusal: Callable[[httpx.Response], Exception],
        check: Callable[[], None],
        home: str = "",
        token: str | None = None,
    ) -> None:
        # identity: a compressed answer has neither the announced size nor usable offsets.
        self._client = httpx.Client(
            timeout=timeout,
            follow_redirects=True,
            transport=GuardedTransport(access, check),
            headers={"User-Agent": "modelshelf", "Accept-Encoding": "identity"},
        )
        self._refusal = refusal
        self._check = check
        self._home = httpx.URL(home)
        self._token = token
        self._moved: dict[str, httpx.URL] = {}  # where each file's last redirect led

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def open(
        self, url: str, ranges: str | None = None, etag: str | None = None, *, direct: bool = False
    ) -> Iterator[httpx.Response]:
        """The answer to a GET, its body unread. `ranges`: a Range header, meant for the version `etag` only.

        `direct`: ask where the last redirect of `url` led, for as long as it is let in there: the many parts of one file need no more
        than one redirect.
        """
        headers = {"Range": ranges} if ranges else {}
        if ranges and etag:
            headers["If-Range"] = etag
        response = self._patiently(lambda: self._get(url, headers, direct), httpx.URL(url).host)
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
        """As `read`, with the answer that the first bytes came in; raises RangeUnsatisfiable.

        What breaks off or comes short is picked up where it ended. Raises DownloadIncomplete where the file is no longer the version
        `etag`, and HubUnusable where the server sends another part of it than was asked for, or too little in PIECES answers.
        """
        body, answers = bytearray(), list[httpx.Response]()

        def more() -> bool:
            """Whether that was all; False when the connection broke after some bytes, or the server gave less than it has."""
            at = start + len(body)
            with self.open(url, f"bytes={at}-{start + length - 1}", etag) as response:
                answers.append(response)
                skip, first = 0, range_start(response)
                if etag and strong_etag(response) not in (None, etag):
                    raise DownloadIncomplete(
                        f"The file at {response.url.host} has changed while it was read. Try again."
                    )
                if first > 0 and first != at:
                    raise HubUnusable(f"{response.url.host} sends another part of the file than it is asked for.")
                if first != at:  # the whole file instead
                    body.clear()
                    skip = start
                try:
                    for chunk in response.iter_bytes():
                        body.extend(chunk[skip:])
                        skip = max(0, skip - len(chunk))
                        if len(body) >= length:
                            break
                except httpx.RequestError as error:
                    if start + len(body) > at:
                        return False
                    raise Transient(_reason(error)) from error
                total = total_size(response) if first == at else None
            return total is None or start + len(body) >= min(start + length, total)

        host = httpx.URL(url).host
        try:
            if not any(self._patiently(more, host) for _ in range(PIECES)):
                raise HubUnusable(
                    f"{host} sends too little at a time: {len(body):,} bytes in {PIECES} answers, where {length:,} were asked for. "
                    "Download the file in a browser, and give its path.",
                    host=host,
                )
        except RangeUnsatisfiable:
            if not answers:
                raise
            # It broke after the file's last byte: nothing lies behind it.
        return answers[0], bytes(body[:length])

    def get(self, url: str) -> httpx.Response:
        """A whole small answer, whatever its status, read into memory."""

        def fetch() -> httpx.Response:
            response = self._get(url, {}, direct=False)
            try:
                response.read()
            except httpx.RequestError as error:
                raise Transient(_reason(error)) from error
            return response

        return self._patiently(fetch, httpx.URL(url).host)

    @contextmanager
    def stream(self, url: str, start: int, end: int | None = None, etag: str | None = None) -> Iterator[Stream]:
        """The bytes from `start` up to `end`. Raises RangeIgnored, RangeUnsatisfiable; iterating raises DownloadIncomplete."""
        ranges = f"bytes={start}-{'' if end is None else end - 1}" if start or end is not None else None
        with self.open(url, ranges, etag, direct=end is not None) as response:
            if ranges and range_start(response, asked=True) != start:
                raise RangeIgnored
            yield Stream(_chunks(response), strong_etag(response))

    def _get(self, url: str, headers: dict[str, str], direct: bool) -> httpx.Response:
        if direct and (moved := self._moved.get(url)) is not None:
            response = self._send(self._request(moved, headers))
            if response.status_code < 400 or response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return response
            response.close()  # a signed address has expired
            self._moved.pop(url, None)  # another connection may have noticed at the same time
        response = self._send(self._request(httpx.URL(url), headers))
        if response.history and response.is_success:
            self._moved[url] = response.url
        return response

    def _request(self, url: httpx.URL, headers: dict[str, str]) -> httpx.Request:
        if self._token and _origin(url) == _origin(self._home):
            headers = {**headers, "Authorization": f"Bearer {self._token}"}
        return self._client.build_request("GET", url, headers=headers)

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            response = self._client.send(request, stream=True)
        except (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise HubUnusable(f"{request.url.host} redirects to nowhere: {error}", host=request.url.host) from error
        except httpx.TransportError as error:
            raise Transient(_reason(error)) from error
        if request.url.scheme == "https" and response.url.scheme != "https":
            response.close()
            raise HubUnusable(f"{request.url.host} redirects to http://{response.url.host}, which could be anybody's.")
        if is_transient(response.status_code):
            response.close()
            raise Transient(f"it answers {response.status_code} {response.reason_phrase}", retry_after(response))
        return response

    def _patiently(self, call: Callable[[], T], host: str) -> T:
        """`call()`, again after each pause of BACKOFF_SECONDS while it raises Transient; then HubUnreachable."""
        for pause in BACKOFF_SECONDS:
            try:
                return call()
            except Transient as error:
                asked = error.after or 0.0
                if asked > RETRY_AFTER_LIMIT:
                    raise HubUnreachable(
                        f"{host} asks to be left alone for {asked:.0f} s: {error}. Try again later.",
                        host=host,
                        retry_after=asked,
                    ) from error
                self._wait(max(asked, pause * random.uniform(0.5, 1.5)))
        try:
            return call()
        except Transient as error:
            asks = {"retry_after": error.after} if error.after else {}
            raise HubUnreachable(
                f"{host} cannot be reached: {error}. Check the connection, or try again later.", host=host, **asks
            ) from error

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._check()
            time.sleep(min(LOOK_SECONDS, left))


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def range_start(response: httpx.Response, *, asked: bool = False) -> int:
    """The offset that the body begins at; -1 when a range was `asked` for and the answer is the whole file."""
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return -1 if asked else 0
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    return int(found[1]) if found and found[1] else -1


def total_size(response: httpx.Response) -> int | None:
    """Length of the whole file in bytes, as this answer to a Range request tells it; None where it is that of a compressed one."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    if found := _CONTENT_RANGE.match(response.headers.get("Content-Range", "")):
        return None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return int(length) if response.status_code == httpx.codes.OK and length.isdecimal() else None


def strong_etag(response: httpx.Response) -> str | None:
    """RFC 9110 13.1.5: If-Range takes strong ones only."""
    etag: str | None = response.headers.get("ETag")
    return None if etag is None or etag.startswith("W/") else etag


def retry_after(response: httpx.Response) -> float | None:
    """Seconds, from either form of the header (RFC 9110 10.2.3)."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # not a date, or one without a zone
        return None


def _chunks(response: httpx.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_bytes()
    except httpx.RequestError as error:
        raise DownloadIncomplete(f"The connection to {response.url.host} broke: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """In its own words, but for one about our request: it quotes the header, and so the token."""
    said = "" if isinstance(error, httpx.LocalProtocolError) else str(error).rstrip(".")
    return said or type(error).__name__
