"""Runs the application under uvicorn."""

from __future__ import annotations

from contextlib import suppress
from socket import socket

import uvicorn

from api.app import create_app
from api.guard import is_loopback
from api.logs import configure
from registry.errors import TokenRequired
from registry.manager import Manager


class _Server(uvicorn.Server):
    """Says where it listens once it does, on standard output: with port 0 nobody could know otherwise."""

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                host, port = listening.getsockname()[:2]
                print(f"modelshelf listens on http://{host}:{port}  (API: http://{host}:{port}/docs)", flush=True)


GRACE_SECONDS = 3  # for open requests and event streams when the service is asked to stop


def run(manager: Manager, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM, which are the ordinary way to stop. Raises TokenRequired."""
    is_local = is_loopback(host)
    if not is_local and not manager.tokens.list():
        raise TokenRequired(
            f"On {host} others could use the service, and no token is there to tell friends by. Make one first: modelshelf token create"
        )
    configure(manager.settings.log_format, manager.settings.log_level)
    config = uvicorn.Config(
        create_app(manager, is_local=is_local),
        host=host,
        port=port,
        log_config=None,  # api/logs.py has them all
        access_log=False,  # api/observing.py has it
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again after its shutdown
        _Server(config).run()
