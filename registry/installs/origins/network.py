"""Which machines may be spoken to, and connections that go to no other.

The address that a name resolves to is checked, and that same address is connected to: a name that resolves to something else a moment
later (DNS rebinding) gains nothing. Every redirect opens its connection here, so every hop is checked.
"""

from __future__ import annotations

import math
import os
import select
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from functools import cache, partial
from ipaddress import ip_address
from threading import Thread
from typing import Any, TypeVar

import httpcore
import httpx

from registry.errors import AddressRefused, HubUnusable
from registry.installs.origins.access import ANYWHERE, Access, Address

T = TypeVar("T")

LOOK_SECONDS = 0.25
"""Between two questions whether a connection that is silent is still wanted: an install that is cancelled lets go within it."""


class GuardedTransport(httpx.BaseTransport):
    """Requests to hosts that Access admits. `check` is called every LOOK_SECONDS of silence; what it raises ends the request.

    With a proxy in the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), it is the proxy that resolves and connects. So a name is resolved
    here as well, and refused for what it is here; one that is not known here is left to the proxy only where Access names it.
    """

    def __init__(self, access: Access, check: Callable[[], None]) -> None:
        self._access = access
        self._backends = {scheme: _Backend(access, check, secure=scheme == "https") for scheme in ("http", "https")}
        self._direct = {scheme: _PinnedTransport(backend) for scheme, backend in self._backends.items()}
        self._proxied = {
            scheme: _PinnedTransport(_Backend(ANYWHERE, check, secure=False), _proxy(url))
            for scheme, url in urllib.request.getproxies().items()
            if scheme in self._direct
        }

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        scheme, host = request.url.scheme, request.url.host
        if scheme not in self._direct:
            raise httpx.UnsupportedProtocol(f"{scheme}:// is no address of the web", request=request)
        proxy = self._proxied.get(scheme)
        if proxy is None or urllib.request.proxy_bypass(host):
            return self._direct[scheme].handle_request(request)
        if scheme != "https" or _literal(host) is not None:
            _check(self._access, host, _literal(host), secure=scheme == "https")
        else:
            self._check_name(request)
        return proxy.handle_request(request)

    def _check_name(self, request: httpx.Request) -> None:
        host, timeout = request.url.host, request.extensions.get("timeout", {}).get("connect")
        try:
            self._backends["https"].resolve(host, request.url.port or 443, timeout)
        except (OSError, httpcore.ConnectTimeout) as error:
            if not self._access.names(host):
                raise httpx.ConnectError(
                    f"this machine does not know its address, and leaves that to the proxy only for hosts that MODELSHELF_ALLOWED_HOSTS "
                    f"names: {host} is none of them",
                    request=request,
                ) from error

    def close(self) -> None:
        for transport in (*self._direct.values(), *self._proxied.values()):
            transport.close()


def _proxy(url: str) -> httpx.Proxy:
    """Raises HubUnusable."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        raise HubUnusable(
            f"The environment names a {scheme}:// proxy, and only http:// and https:// ones can be used. Set one in HTTPS_PROXY, or "
            "unset it."
        )
    return httpx.Proxy(url if separator else f"http://{url}")


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _check(access: Access, host: str, address: Address | None, *, secure: bool) -> None:
    if address is not None and access.admits(address, secure=secure):
        return
    at = f" ({address})" if address is not None and str(address) != host else ""
    if not secure and (address is None or access.admits(address, secure=True)):
        raise AddressRefused(
            f"{host} is reached over http://, so its bytes could be anybody's. Only https is taken.", host=host
        )
    raise AddressRefused(
        f"{host}{at} is an address inside of this machine or its network, where nothing is installed from. "
        "MODELSHELF_ALLOWED_NETWORKS makes exceptions.",
        host=host,
    )


class _PinnedTransport(httpx.HTTPTransport):
    """httpx's own, with our way to open connections, which it has no argument for."""

    def __init__(self, backend: httpcore.NetworkBackend, proxy: httpx.Proxy | None = None) -> None:
        super().__init__(verify=_tls())
        common: dict[str, Any] = {"ssl_context": _tls(), "max_connections": None, "network_backend": backend}
        self._pool = (
            httpcore.ConnectionPool(**common)
            if proxy is None
            else httpcore.HTTPProxy(
                proxy_url=str(proxy.url),
                proxy_auth=proxy.raw_auth,
                proxy_ssl_context=_tls() if proxy.url.scheme == "https" else None,
                **common,
            )
        )


@cache
def _tls() -> ssl.SSLContext:
    """Reading the certificates takes 20 ms, and each origin has a client of its own."""
    return httpx.create_ssl_context()


class _Backend(httpcore.NetworkBackend):
    def __init__(self, access: Access, check: Callable[[], None], *, secure: bool) -> None:
        self._access = access
        self._ask = check
        self._secure = secure

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """To the first address of `host` that answers; all of them must be admitted."""
        try:
            found = self.resolve(host, port, timeout)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} is not known ({error.strerror or error})") from error
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for family, kind, protocol, _, where in found:
            try:
                return _Stream(self._connect(family, kind, protocol, where, timeout), self._ask)
            except OSError as error:
                failure = httpcore.ConnectError(str(error))
            except httpcore.ConnectTimeout as error:
                failure = error
        raise failure

    def resolve(self, host: str, port: int, timeout: float | None) -> list[Any]:
        """As getaddrinfo answers. Raises AddressRefused unless all of them are admitted; OSError, ConnectTimeout."""
        found = self._ask_for(host, port, timeout)
        for *_, where in found:
            _check(self._access, host, ip_address(str(where[0]).partition("%")[0]), secure=self._secure)
        return found

    def _ask_for(self, host: str, port: int, timeout: float | None) -> list[Any]:
        """The system's own question cannot be called off: it is asked in a thread that nobody waits for then."""
        answer, deadline = Future[list[Any]](), _deadline(timeout)

        def ask() -> None:
            try:
                answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except Exception as error:
                answer.set_exception(error)

        Thread(target=ask, name="resolve", daemon=True).start()
        while not wait([answer], LOOK_SECONDS).done:
            self._ask()
            if time.monotonic() >= deadline:
                raise httpcore.ConnectTimeout(f"{host} is not resolved in time")
        return answer.result()

    def _connect(self, family: int, kind: int, protocol: int, where: Any, timeout: float | None) -> socket.socket:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            connection.connect_ex(where)
            deadline = _deadline(timeout)
            while not select.select([], [connection], [], LOOK_SECONDS)[1]:
                self._ask()
                if time.monotonic() >= deadline:
                    raise httpcore.ConnectTimeout("timed out")
            if number := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(number, os.strerror(number))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            connection.close()
            raise
        return connection


class _Stream(httpcore.NetworkStream):
    """A connection whose waits are cut into pieces of LOOK_SECONDS."""

    def __init__(self, connection: socket.socket, check: Callable[[], None]) -> None:
        self._socket = connection
        self._ask = check

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._patiently(lambda: self._socket.recv(max_bytes), timeout, httpcore.ReadTimeout, httpcore.ReadError)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._socket.settimeout(timeout)
        try:
            self._socket.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout("timed out") from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        if isinstance(self._socket, ssl.SSLSocket):
            return _Within(self, ssl_context, server_hostname, timeout)
        try:
            secured = ssl_context.wrap_socket(
                self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
            )
        except OSError as error:
            self.close()
            raise httpcore.ConnectError(str(error)) from error
        stream = _Stream(secured, self._ask)
        try:
            stream._patiently(secured.do_handshake, timeout, httpcore.ConnectTimeout, httpcore.ConnectError)
        except BaseException:
            stream.close()
            raise
        return stream

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "ssl_object":
                return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
            case "socket":
                return self._socket
            case "client_addr":
                return self._socket.getsockname()
            case "server_addr":
                return self._socket.getpeername()
            case "is_readable":  # an idle connection that can be read from has been closed by the server
                return self._socket.fileno() < 0 or bool(select.select([self._socket], [], [], 0)[0])
        return None

    def _patiently(
        self, call: Callable[[], T], timeout: float | None, too_late: type[Exception], broken: type[Exception]
    ) -> T:
        deadline = _deadline(timeout)
        while True:
            self._socket.settimeout(min(LOOK_SECONDS, max(0.001, deadline - time.monotonic())))
            try:
                return call()
            except TimeoutError as error:
                self._ask()
                if time.monotonic() >= deadline:
                    raise too_late("timed out") from error
            except OSError as error:
                raise broken(str(error)) from error


_RECORDS = 1 << 16  # bytes; a record of TLS has 16 KiB at most


class _Within(httpcore.NetworkStream):
    """TLS within a connection that is TLS itself: with a site, by way of a proxy that is spoken to so."""

    def __init__(
        self, outer: _Stream, context: ssl.SSLContext, server_hostname: str | None, timeout: float | None
    ) -> None:
        self._outer, self._come, self._go = outer, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._come, self._go, server_hostname=server_hostname)
        try:
            self._carried(self._tls.do_handshake, timeout, httpcore.ConnectError)
        except BaseException:
            self.close()
            raise

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._carried(lambda: self._tls.read(max_bytes), timeout, httpcore.ReadError)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        while rest:
            rest = rest[self._carried(partial(self._tls.write, rest), timeout, httpcore.WriteError) :]

    def close(self) -> None:
        self._outer.close()

    def get_extra_info(self, info: str) -> Any:
        return self._tls if info == "ssl_object" else self._outer.get_extra_info(info)

    def _carried(self, call: Callable[[], T], timeout: float | None, broken: type[Exception]) -> T:
        while True:
            try:
                done: list[T] = [call()]
            except ssl.SSLWantReadError:
                done = []
            except ssl.SSLError as error:
                raise broken(str(error)) from error
            if self._go.pending:
                self._outer.write(self._go.read(), timeout)
            if done:
                return done[0]
            if came := self._outer.read(_RECORDS, timeout):
                self._come.write(came)
            else:
                self._come.write_eof()


def _deadline(timeout: float | None) -> float:
    return math.inf if timeout is None else time.monotonic() + timeout
