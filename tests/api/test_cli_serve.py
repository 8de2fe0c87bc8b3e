"""`modelshelf serve` as those see it who start and stop services: where it listens, why it cannot, how it ends."""

from __future__ import annotations

import asyncio
import errno
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from api import server
from registry.errors import CannotListen
from tests.api.conftest import NOWHERE, Here
from tests.service import MODELSHELF, environment


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_its_page_is_and_ends_with_0_when_it_is_stopped(tmp_path: Path, stop: signal.Signals) -> None:
    process = subprocess.Popen(
        [MODELSHELF, "serve", "--port", "0"],
        env=environment(tmp_path / "root", NOWHERE),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        said = process.stdout.readline()
        try:
            told = re.fullmatch(
                r"modelshelf listens on (http://127\.0\.0\.1:\d+)  \(open it in a browser; its API is described at \1/docs\)\n",
                said,
            )
            assert told
            page = httpx.get(told[1], trust_env=False)
            assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
            words = [MODELSHELF, "--server", told[1].removeprefix("http://"), "list", "--json"]
            listed = subprocess.run(words, env=environment(tmp_path / "other", NOWHERE), capture_output=True, text=True)
            assert (listed.returncode, listed.stdout) == (0, "[]\n"), listed.stderr
        finally:
            process.send_signal(stop)
            rest, err = process.communicate(timeout=60)
    assert (process.returncode, rest, err) == (0, "", "")


def test_a_port_that_is_in_use_is_one_line(here: Here) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, out, err = here("serve", "--port", str(port))
    assert (code, out) == (1, "")
    assert err == (
        f"modelshelf: Port {port} is in use. Stop what listens there, or choose another: --port. [cannot_listen]\n"
    )


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("192.0.2.1", "192.0.2.1 is no address of this machine. Choose another: --host."),  # RFC 5737: nobody's
        ("no..host", "The host no..host is not known here. Choose another: --host."),
    ],
)
def test_a_host_that_cannot_be_bound_is_one_line(here: Here, host: str, why: str) -> None:
    assert here("token", "create")[0] == 0
    assert here("serve", "--host", host, "--port", "0") == (1, "", f"modelshelf: {why} [cannot_listen]\n")


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_a_port_that_there_cannot_be_is_wrong_usage(here: Here, port: str) -> None:
    code, out, err = here("serve", "--port", port)
    assert (code, out) == (2, "")
    assert "--port" in err


def test_no_answer_waits_for_an_acknowledgement() -> None:
    """40 ms (RFC 896 meets RFC 1122, 4.2.3.2), unless TCP_NODELAY is set."""

    async def accepted() -> int:
        undelayed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            undelayed.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        [listening] = server._listening("127.0.0.1", 0)
        async with await asyncio.start_server(connected, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            writer.close()
            return await undelayed

    assert asyncio.run(accepted())


class TestLocalhost:
    """Has two addresses, of which IPv6's may be missing."""

    @pytest.fixture(autouse=True)
    def _both(self, monkeypatch: pytest.MonkeyPatch) -> None:
        both = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]
        found = [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for family, address in both]
        monkeypatch.setattr(server, "getaddrinfo", lambda *_, **__: found * 2)  # as where /etc/hosts has it twice

    @pytest.mark.parametrize("missing", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
    def test_is_listened_on_where_there_is_no_ipv6(self, monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
        bind = server._bound

        def bound(family: socket.AddressFamily, address: object) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(missing, "missing")
            return bind(family, address)

        monkeypatch.setattr(server, "_bound", bound)
        [listening] = server._listening("localhost", 0)
        with listening:
            assert listening.getsockname()[0] == "127.0.0.1"

    def test_is_not_when_one_of_its_ports_is_somebody_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = []

        def bound(family: socket.AddressFamily, _: object) -> socket.socket:
            if opened:
                raise OSError(errno.EADDRINUSE, "in use")
            opened.append(socket.socket())
            return opened[0]

        monkeypatch.setattr(server, "_bound", bound)
        with pytest.raises(CannotListen, match="Port 8420 is in use"):
            server._listening("localhost", 8420)
        assert opened[0].fileno() == -1  # closed
