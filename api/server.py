"""Runs the application under uvicorn."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import ExitStack, suppress
from socket import (
    AF_INET6,
    AI_PASSIVE,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_V6ONLY,
    SO_REUSEADDR,
    SOCK_STREAM,
    SOL_SOCKET,
    AddressFamily,
    gaierror,
    getaddrinfo,
    socket,
)
from typing import Any

import uvicorn

from api.app import create_app
from api.guard import is_loopback
from api.logs import configure
from registry.errors import CannotListen, ModelshelfError, TokenRequired
from registry.manager import Manager


class _Server(uvicorn.Server):
    """Says where it listens once it does, on standard output: with port 0 nobody could know otherwise."""

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        for listening in sockets or ():
            host, port = listening.getsockname()[:2]
            url = f"http://{f'[{host}]' if listening.family == AF_INET6 else host}:{port}"
            print(
                f"modelshelf listens on {url}  (open it in a browser; its API is described at {url}/docs)", flush=True
            )


GRACE_SECONDS = 3  # for open requests and event streams when the service is asked to stop
_WHY_NOT = {
    errno.EADDRINUSE: "Port {port} is in use. Stop what listens there, or choose another: --port.",
    errno.EACCES: "Port {port} is not open to this user. Choose another, above 1023: --port.",
    errno.EADDRNOTAVAIL: "{host} is no address of this machine. Choose another: --host.",
}
_OTHERWISE = "{host}, port {port}: {error}. Choose another: --host, --port."
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # as IPv6's address of localhost is on a machine without IPv6


def run(manager: Manager, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM, which are the ordinary way to stop. Raises TokenRequired, CannotListen."""
    is_local = is_loopback(host)
    if not is_local and not manager.tokens.list():
        raise TokenRequired(
            f"On {host} others could use the service, and no token is there to tell friends by. Make one first: modelshelf token create"
        )
    sockets = _listening(host, port)
    configure(manager.settings.log_format, manager.settings.log_level)
    config = uvicorn.Config(
        create_app(manager, is_local=is_local),
        log_config=None,  # api/logs.py has them all
        access_log=False,  # api/observing.py has it
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config)
    try:
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again after its shutdown
            signal.signal(
                signal.SIGTERM, signal.default_int_handler
            )  # or that would be the end, before the manager's own
            server.run(sockets)
            if not server.started:
                raise ModelshelfError("The service could not start; its log says why.")
    finally:
        for listening in sockets:
            listening.close()


def _listening(host: str, port: int) -> list[socket]:
    """A socket on each address that `host` means, of which localhost has two. Raises CannotListen."""
    try:
        found = getaddrinfo(host, port, type=SOCK_STREAM, proto=IPPROTO_TCP, flags=AI_PASSIVE)
    except (gaierror, UnicodeError) as error:
        raise CannotListen(f"The host {host} is not known here. Choose another: --host.") from error
    sockets, absent = list[socket](), list[OSError]()
    with ExitStack() as undone:
        for family, _, _, _, address in dict.fromkeys(found):  # a name may be listed twice
            try:
                sockets.append(undone.enter_context(_bound(family, address)))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise _cannot(host, port, error) from error
                absent.append(error)
        if not sockets:
            raise _cannot(host, port, absent[0]) from absent[0]
        undone.pop_all()
    return sockets


def _bound(family: AddressFamily, address: Any) -> socket:
    """Listening, as asyncio would open it."""
    # With the protocol named: only then asyncio sets TCP_NODELAY, and no answer waits 40 ms for an ACK.
    opened = socket(family, SOCK_STREAM, IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would share the port with whoever has it
            opened.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        if family == AF_INET6:
            opened.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
        opened.bind(address)
        opened.listen()
    except OSError:
        opened.close()
        raise
    return opened


def _cannot(host: str, port: int, error: OSError) -> CannotListen:
    why = _WHY_NOT.get(error.errno or 0, _OTHERWISE)
    return CannotListen(why.format(host=host, port=port, error=error.strerror), host=host, port=port)
