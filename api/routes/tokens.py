"""/v1/tokens: who else may use the service, and for what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from api.access import MANAGE, Caller
from api.deps import ManagerDep
from api.problems import raises
from api.schemas.common import NAME, Body
from registry import errors
from registry.errors import InsufficientScope
from registry.scopes import EVERY_SCOPE, Scope
from registry.tables import ApiToken

router = APIRouter(prefix="/v1/tokens", tags=["service"])


class TokenIn(Body):
    name: str = Field(default="", description="Whom it is for.", max_length=150, pattern=NAME, examples=["prometheus"])
    scopes: list[Annotated[Scope, Field(strict=False)]] = Field(
        default=sorted(EVERY_SCOPE),
        description="What it opens. Left out: everything.",
        min_length=1,
        max_length=len(EVERY_SCOPE),
        examples=[["read"]],
    )


class TokenOut(BaseModel):
    id: str = Field(examples=["0f3a5c7e9b1d"])
    name: str = Field(examples=["prometheus"])
    scopes: list[Scope] = Field(examples=[["read"]])
    created_at: datetime

    @classmethod
    def of(cls, known: ApiToken, **more: str) -> Self:
        return cls(**known.model_dump(include={"id", "name", "scopes", "created_at"}), **more)


class NewToken(TokenOut):
    token: str = Field(
        description="The token itself, told this once: only its digest is kept.", examples=["msh_" + "0aB-" * 10]
    )


class TokenList(BaseModel):
    tokens: list[TokenOut]


@router.post("", status_code=201, dependencies=[MANAGE])
def create_token(manager: ManagerDep, body: TokenIn, request: Request, response: Response) -> NewToken:
    """Make a token. Nobody gives away more than he has: the scopes are among those of the token that asks."""
    caller: Caller = request.state.caller
    if beyond := sorted(set(body.scopes) - caller.scopes):
        raise InsufficientScope(
            f"Your token is for {', '.join(sorted(caller.scopes))}; it can give nobody {', '.join(beyond)}.",
            needed=beyond,
        )
    secret = manager.tokens.create(body.name, set(body.scopes))
    response.headers["Cache-Control"] = "no-store"
    made = manager.tokens.find(secret)
    assert made is not None, "it was made just now"
    return NewToken.of(made, token=secret)


@router.get("", dependencies=[MANAGE])
def list_tokens(manager: ManagerDep) -> TokenList:
    """The tokens that are in force, oldest first, a thousand at most; not the secrets, which nobody keeps."""
    return TokenList(tokens=[TokenOut.of(token) for token in manager.tokens.list()])


@router.delete("/{token}", status_code=204, dependencies=[MANAGE], responses=raises(errors.TokenNotFound))
def revoke_token(
    manager: ManagerDep,
    token: Annotated[str, Path(description="Its id, or a name that only it has.", examples=["prometheus"])],
) -> None:
    """It opens nothing any more, from the next request on."""
    manager.tokens.revoke(token)
