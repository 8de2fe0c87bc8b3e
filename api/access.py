"""What a route asks of its caller: `dependencies=[SHELF]`, [READ], [GENERATIONS], [GENERATE] or [MANAGE], declared at every route.

Which scopes open which, registry/scopes.py has in one table. Who the caller is, api/guard.py has found out before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.openapi.models import HTTPBase
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase

from registry.errors import InsufficientScope
from registry.scopes import EVERY_SCOPE, Area, Scope, opening


@dataclass(frozen=True, slots=True)
class Caller:
    """`name`: for logs, limits and what belongs to it, a token's id."""

    name: str
    scopes: frozenset[Scope]

    def sees(self, owner: str) -> bool:
        """Whether it may look at a generation that `owner` asked for."""
        return Scope.READ in self.scopes or owner == self.name


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
    if caller.scopes.isdisjoint(needed.scopes):
        raise InsufficientScope(
            f"This token is for {', '.join(sorted(caller.scopes))}; this asks for {' or '.join(needed.scopes)}.",
            needed=needed.scopes,
        )


def needs(area: Area) -> Any:
    return Security(_check, scopes=opening(area))


SHELF, READ, GENERATIONS = needs(Area.SHELF), needs(Area.WORK), needs(Area.GENERATIONS)
GENERATE, MANAGE = needs(Area.GENERATE), needs(Area.MANAGE)


async def _caller(request: Request) -> Caller:
    found: Caller = request.state.caller
    return found


CallerDep = Annotated[Caller, Depends(_caller)]
