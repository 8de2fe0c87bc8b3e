"""Tokens that let others in when the service listens beyond this machine; the database knows their digests only."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from hashlib import sha256

from sqlalchemy import Engine, delete
from sqlmodel import Session, col, select

from registry.db import unit_of_work
from registry.errors import InvalidRequest, TokenNotFound
from registry.scopes import EVERY_SCOPE, Scope
from registry.tables import ApiToken

PREFIX = "msh_"  # so that a leaked one is recognised
MOST = 1000  # tokens: a list of them is told whole
_BYTES = 32  # random ones: what nobody can guess needs no slow hash


class Tokens:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, name: str, scopes: Collection[Scope] = EVERY_SCOPE) -> str:
        """A new token, told this once. Raises InvalidRequest: there are too many."""
        if len(self.list()) >= MOST:
            raise InvalidRequest(f"There are {MOST} tokens already; `modelshelf token revoke` makes room.")
        token = PREFIX + secrets.token_urlsafe(_BYTES)
        with unit_of_work(self._engine) as session:
            session.add(ApiToken(name=name, digest=_digest(token), scopes=sorted(scopes)))
        return token

    def list(self) -> list[ApiToken]:
        """Oldest first."""
        with Session(self._engine) as session:
            return list(session.exec(select(ApiToken).order_by(col(ApiToken.created_at))))

    def revoke(self, reference: str) -> None:
        """By id, or by a name that only one has. Raises TokenNotFound, InvalidRequest."""
        with unit_of_work(self._engine) as session:
            # The id first: nobody makes a token unrevokable by giving its id to another as a name.
            ways = (col(ApiToken.id) == reference, col(ApiToken.name) == reference)
            every = (session.exec(select(ApiToken.id).where(way)).all() for way in ways)
            found = next((ids for ids in every if ids), ())
            if not found:
                raise TokenNotFound(
                    f"There is no token “{reference}”; `modelshelf token list` shows them.", token=reference
                )
            if len(found) > 1:
                raise InvalidRequest(
                    f"{len(found)} tokens are called “{reference}”: say which by its id.", ids=[*found]
                )
            session.connection().execute(delete(ApiToken).where(col(ApiToken.id) == found[0]))

    def find(self, token: str) -> ApiToken | None:
        """The look-up is by digest: how long it takes tells nothing of a token."""
        with Session(self._engine) as session:
            return session.exec(select(ApiToken).where(ApiToken.digest == _digest(token))).first()


def _digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()
