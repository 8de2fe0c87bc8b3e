"""What a token opens; light, for the command line."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """What a token opens. None includes another: a token names all that it is for."""

    READ = "read"
    GENERATE = "generate"
    MANAGE = "manage"


EVERY_SCOPE = frozenset(Scope)
