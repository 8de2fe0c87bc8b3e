"""Which machines are spoken to: by name, by the address that the name resolves to, after every redirect."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.errors import AddressRefused, Cancelled, HostRefused, HubUnreachable, HubUnusable
from registry.installs.origins import network, open_origin
from registry.installs.origins.access import Access
from registry.sources import UrlSource
from tests.hub import LoopbackHub
from tests.hub.fixtures import OPEN, WEIGHTS
from tests.loopback import LOOPBACK

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),  # the metadata service of clouds
        ("100.64.0.1", False),  # carrier-grade NAT
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),  # NAT64 of 127.0.0.1
        ("2002:7f00:1::", False),  # 6to4 of 127.0.0.1
        ("fec0::1", False),  # site-local, of old
        ("64:ff9b:1::7f00:1", False),  # NAT64 within a network (RFC 8215)
        ("::7f00:1", False),  # IPv4-compatible, of old
        ("::ffff:0:7f00:1", False),  # IPv4-translated (RFC 2765)
    ],
)
def test_addresses(address: str, public: bool) -> None:
    assert Access().admits(ip_address(address), secure=True) is public
    assert Access().admits(ip_address(address), secure=False) is False


def test_networks_that_the_setting_names_are_let_in_also_without_tls() -> None:
    access = Access(networks=(ip_network("10.1.0.0/16"), ip_network("fd00::/8")))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::7"):
        assert access.admits(ip_address(address), secure=False)
    assert not access.admits(ip_address("10.2.0.1"), secure=True)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("civitai.com", True),
        ("CIVITAI.com.", True),
        ("files.example.org", True),
        ("example.org", False),
        ("evilcivitai.com", False),
        ("civitai.com.evil.net", False),
        ("127.0.0.1", False),
    ],
)
def test_hosts(host: str, allowed: bool) -> None:
    access = Access(hosts=("civitai.com", "*.example.org"))
    if allowed:
        access.check_host(host)
    else:
        with pytest.raises(HostRefused, match="MODELSHELF_ALLOWED_HOSTS"):
            access.check_host(host)


def test_a_host_that_is_not_allowed_is_not_even_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("resolved"))
    with pytest.raises(HostRefused):
        fetch("https://elsewhere.example/a.safetensors", Access(hosts=("civitai.com",)))


def fetch(url: str, access: Access, length: int = 100) -> bytes:
    with open_origin(UrlSource(url), endpoint="", token=None, timeout=5, access=access) as origin:
        return origin.read(origin.listing().files[0], 0, length)


def resolves(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Every name resolves to the next of `answers`, and to the last one from then on."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        address = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.5", "169.254.169.254"])
def test_a_name_that_resolves_to_a_private_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    resolves(monkeypatch, address)
    with pytest.raises(AddressRefused, match=rf"civitai.com \({address}\) is an address inside"):
        fetch("https://civitai.com/a.safetensors", Access(hosts=("civitai.com",)))


def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: a second look would find loopback. It is never taken; the connection goes to the first answer."""
    asked = resolves(monkeypatch, "192.0.2.1", "127.0.0.1")
    tried: list[Any] = []

    def connect_ex(self: socket.socket, where: Any) -> int:
        tried.append(where)
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(
        "registry.installs.origins.network.socket.socket", type("S", (socket.socket,), {"connect_ex": connect_ex})
    )
    access = Access(hosts=("rebinding.example",), networks=(ip_network("192.0.2.0/24"),))
    with pytest.raises((HubUnreachable, AddressRefused)):
        fetch("https://rebinding.example/a.safetensors", access)
    assert tried == [("192.0.2.1", 443)]
    assert asked == ["rebinding.example"] * 2  # the retry resolved again, was answered loopback, and was refused


class TestBehindAProxy:
    """It is the proxy that resolves and connects: what this machine can know of a name is asked before."""

    @pytest.fixture(autouse=True)
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
        """What the proxy is asked for; it refuses all."""
        seen: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                seen.append(self.path)
                self.send_error(502)

            def log_message(self, *_: Any) -> None: ...

        with running(Handler) as port:
            monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{port}")  # as curl takes it, without a scheme
            yield seen

    def resolves(self, monkeypatch: pytest.MonkeyPatch, answer: str | OSError) -> None:
        real = socket.getaddrinfo

        def getaddrinfo(host: str, port: int, *rest: Any, **more: Any) -> list[Any]:
            if host == "127.0.0.1":
                return real(host, port, *rest, **more)
            if isinstance(answer, OSError):
                raise answer
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port))]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    @pytest.mark.parametrize("address", ["10.0.0.5", "127.0.0.1", "169.254.169.254"])
    def test_what_is_inside_for_this_machine_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, asked: list[str], address: str
    ) -> None:
        self.resolves(monkeypatch, address)
        with pytest.raises(AddressRefused, match=rf"civitai.com \({address}\) is an address inside"):
            fetch("https://civitai.com/a.safetensors", Access(hosts=("civitai.com",)))
        assert asked == []

    def test_what_is_public_goes_to_the_proxy(self, monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> None:
        self.resolves(monkeypatch, "93.184.216.34")
        with pytest.raises(HubUnreachable):
            fetch("https://files.example/a.safetensors", Access(hosts=("*",)))
        assert {*asked} == {"files.example:443"}

    @pytest.mark.parametrize(("hosts", "left_to_it"), [(("*",), False), (("*.example",), True)])
    def test_what_only_the_proxy_knows_must_be_named(
        self, monkeypatch: pytest.MonkeyPatch, asked: list[str], hosts: tuple[str, ...], left_to_it: bool
    ) -> None:
        self.resolves(monkeypatch, socket.gaierror(-2, "Name or service not known"))
        with pytest.raises(HubUnreachable, match=None if left_to_it else "MODELSHELF_ALLOWED_HOSTS"):
            fetch("https://files.example/a.safetensors", Access(hosts=hosts))
        assert {*asked} == ({"files.example:443"} if left_to_it else set())

    def test_a_proxy_that_is_none_of_http_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "socks5://somebody:secret@127.0.0.1:1080")
        with pytest.raises(HubUnreachable, match="socks5:// proxy") as error:
            fetch("https://files.example/a.safetensors", Access(hosts=("*",)))
        assert "secret" not in error.value.message

    def test_bytes_come_through_it(self, monkeypatch: pytest.MonkeyPatch, hub: LoopbackHub) -> None:
        came: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                came.append(self.headers["Proxy-Authorization"])
                del self.headers["Proxy-Authorization"]
                answer = httpx.get(self.path, headers=dict(self.headers), trust_env=False)
                self.send_response(answer.status_code)
                for name in ("Content-Length", "Content-Range", "ETag", "Location"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: Any) -> None: ...

        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        with running(Handler) as port:
            monkeypatch.setenv("HTTP_PROXY", f"http://me:word@127.0.0.1:{port}")
            got = fetch(f"{hub.endpoint}/{OPEN}/resolve/main/{WEIGHTS}", LOOPBACK)
        assert got == (hub.root / OPEN / WEIGHTS).read_bytes()[:100]
        assert {*came} == {"Basic bWU6d29yZA=="}

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
    def test_bytes_come_through_one_that_is_spoken_to_over_tls(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """TLS with the site, within TLS with the proxy: the site is played by the proxy itself, behind the tunnel."""
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate := certified(tmp_path), tmp_path / "key.pem")
        client = ssl.create_default_context(cafile=str(certificate))
        monkeypatch.setattr(network, "_tls", lambda: client)
        body = bytes(range(256)) * 4096

        class Site(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        with running(Site, server) as site:

            class Proxy(BaseHTTPRequestHandler):
                def do_CONNECT(self) -> None:
                    self.send_response(200)
                    self.end_headers()
                    with socket.create_connection(("127.0.0.1", site)) as there:
                        threading.Thread(target=carry, args=(there.recv, self.connection.sendall), daemon=True).start()
                        carry(self.connection.recv, there.sendall)

                def log_message(self, *_: Any) -> None: ...

            with running(Proxy, server) as port:
                monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{port}")
                self.resolves(monkeypatch, "93.184.216.34")
                got = fetch("https://files.example/a.safetensors", Access(hosts=("*",)), len(body))
        assert got == body

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_one_that_says_nothing_is_not_waited_for_when_nobody_wants_it_any_more(
        self, monkeypatch: pytest.MonkeyPatch, scheme: str
    ) -> None:
        wait = 60.0

        def check() -> None:
            raise Cancelled("It was cancelled.")

        with socket.create_server(("127.0.0.1", 0)) as silent:
            monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://user:word@127.0.0.1:{silent.getsockname()[1]}")
            self.resolves(monkeypatch, "93.184.216.34")
            source, began = UrlSource("https://files.example/a.safetensors"), time.monotonic()
            origin = open_origin(source, endpoint="", token=None, timeout=wait, access=Access(("*",)), check=check)
            with origin, pytest.raises(Cancelled):
                origin.listing()
        assert time.monotonic() - began < wait / 2


def certified(folder: Path) -> Path:
    """A certificate of this proxy's and that site's, in `folder`; its key is key.pem beside it."""
    names = "subjectAltName=DNS:files.example,IP:127.0.0.1"
    what = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=test", "-addext", names]
    where = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *what, *where], check=True, capture_output=True)
    return folder / "certificate.pem"


def carry(read: Callable[[int], bytes], write: Callable[[bytes], Any]) -> None:
    with suppress(OSError):
        while some := read(1 << 16):
            write(some)


@contextmanager
def running(handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def redirecting() -> Iterator[Callable[[str], str]]:
    """Address of a server that redirects to where it is told."""
    target = ""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    def towards(where: str) -> str:
        nonlocal target
        target = where
        return f"http://127.0.0.1:{port}/a.safetensors"

    with running(Handler) as port:
        yield towards


@pytest.mark.parametrize(
    "where",
    [
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.5/x",
        "https://[::1]/x",
        "https://[::ffff:10.0.0.1]/x",
        "https://0x7f000001/x",
        "http://93.184.216.34/plain",
        "https://localhost:1/x",
    ],
)
def test_a_redirect_inside_is_refused(redirecting: Callable[[str], str], where: str) -> None:
    access = Access(networks=(ip_network("127.0.0.1/32"),)) if "localhost" not in where else LOOPBACK
    expected = HubUnreachable if "localhost" in where or "0x7f" in where else AddressRefused
    with pytest.raises(expected):
        fetch(redirecting(where), access)


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x"])
def test_a_redirect_out_of_the_web_leads_nowhere(redirecting: Callable[[str], str], where: str) -> None:
    with pytest.raises(HubUnusable, match=r"127\.0\.0\.1 redirects to nowhere: "):
        fetch(redirecting(where), LOOPBACK)
