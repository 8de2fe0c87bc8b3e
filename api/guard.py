"""Who speaks to the service: this machine, or whoever shows a token; all others are turned away here."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.access import LOCAL, NOBODY, Caller
from api.problems import answer
from registry import scopes
from registry.errors import ModelshelfError, RequestRefused, TokenRequired
from registry.tables import ApiToken
from registry.tokens import PREFIX

PUBLIC = ("/healthz", "/readyz", "/v1/images/files/")
"""What is answered to everybody: whether it is alive, and pictures by an address that only their owner was told."""
CHALLENGE = {"WWW-Authenticate": 'Basic realm="modelshelf", Bearer realm="modelshelf"'}
"""Basic first: Chromium looks at the first challenge of a header only, and asks its user for none but that one."""
_SAFE = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Puts the Caller into `request.state.caller`. `find` looks a token up.

    Without a token, only a service that listens on loopback (`is_local`) answers, and only to requests that name it so: a web page whose
    host name was made to resolve to 127.0.0.1 names another host (DNS rebinding). A page of another site that makes a browser post here
    is told by its Origin or by the browser's Sec-Fetch-Site, and turned away unless it shows a bearer token, which browsers do not add by
    themselves. A link that leads here is followed.
    """

    def __init__(self, app: ASGIApp, find: Callable[[str], ApiToken | None], is_local: bool) -> None:
        self._app = app
        self._find = find
        self._is_local = is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            caller, error = await self._identify(headers, scope["method"], scope["path"])
            if error is not None:
                await answer(error, CHALLENGE if isinstance(error, TokenRequired) else None)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    async def _identify(self, headers: Headers, method: str, path: str) -> tuple[Caller, ModelshelfError | None]:
        scheme, token = _shown(headers.get("authorization", ""))
        found = await run_in_threadpool(self._find, token) if token else None
        is_public = path.startswith(PUBLIC) and method in _SAFE
        if scheme != "bearer" and not is_public and _is_foreign(headers, method):
            return NOBODY, RequestRefused("A page of another site asked for this; from there, show a bearer token.")
        if found is not None:
            return Caller(found.id, frozenset(map(scopes.Scope, found.scopes))), None
        if path.startswith(PUBLIC):
            return NOBODY, None
        if token.startswith(PREFIX):  # whoever shows a token is held to it, also where none is asked for
            return NOBODY, TokenRequired("This token opens nothing here: it was revoked, or is another service's.")
        if not self._is_local:
            return NOBODY, TokenRequired(
                "Show a token: Authorization: Bearer ..., in a browser as the password. `modelshelf token create` makes one."
            )
        if not is_loopback(_split(f"//{headers.get('host', '')}").hostname or ""):
            return NOBODY, RequestRefused("This service answers on localhost only. From elsewhere, show a token.")
        return LOCAL, None


def _shown(header: str) -> tuple[str, str]:
    """Scheme and token of an Authorization header; of Basic, the token is the password."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return scheme.lower(), value.strip() if scheme.lower() == "bearer" else ""
    try:
        return "basic", b64decode(value, validate=True).decode().partition(":")[2]
    except ValueError:
        return "basic", ""


def _is_foreign(headers: Headers, method: str) -> bool:
    if (origin := headers.get("origin")) is not None:
        return _split(origin).netloc != headers.get("host", "")
    is_link = method in _SAFE and headers.get("sec-fetch-mode") == "navigate"
    return headers.get("sec-fetch-site") == "cross-site" and not is_link


def _split(address: str) -> SplitResult:
    """Of what is no address, nothing."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
