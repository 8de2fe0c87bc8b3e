"""What a route asks of its caller: `dependencies=[READ]`, [GENERATE] or [MANAGE], declared at every route.

Who the caller is, api/guard.py has found out before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.openapi.models import HTTPBase
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase

from registry.errors import InsufficientScope
from registry.scopes import EVERY_SCOPE, Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """`name`: for logs and limits, a token's id."""

    name: str
    scopes: frozenset[Scope]


LOCAL = Caller("local", EVERY_SCOPE)
"""Whoever asks a service that listens on loopback only."""
NOBODY = Caller("nobody", frozenset())


class _Shown(SecurityBase):
    """Tells OpenAPI how a token is shown."""

    def __init__(self, scheme: str, description: str) -> None:
        self.scheme_name = scheme
        self.model = HTTPBase(scheme=scheme, description=description)

    async def __call__(self) -> None: ...


BEARER = _Shown("bearer", "A token of `modelshelf token create`. On loopback none is needed.")
BASIC = _Shown("basic", "The token as the password, with any user name, for clients that know nothing else.")


async def _check(
    request: Request,
    needed: SecurityScopes,
    _bearer: Annotated[None, Depends(BEARER)],
    _basic: Annotated[None, Depends(BASIC)],
) -> None:
    caller: Caller = request.state.caller
    if missing := [scope for scope in needed.scopes if scope not in caller.scopes]:
        raise InsufficientScope(
            f"This token is for {', '.join(sorted(caller.scopes))}; this asks for {', '.join(missing)}.", needed=missing
        )


def needs(scope: Scope) -> Any:
    return Security(_check, scopes=[scope])


READ, GENERATE, MANAGE = needs(Scope.READ), needs(Scope.GENERATE), needs(Scope.MANAGE)
