"""What a token opens; light, for the command line."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Scope(StrEnum):
    READ = "read"
    GENERATE = "generate"
    MANAGE = "manage"


EVERY_SCOPE = frozenset(Scope)


class Area(StrEnum):
    """Of what can be asked: every operation of the API belongs to one."""

    SHELF = "shelf"  # models, what fits what, what a generation would do: looked at
    WORK = "work"  # installs, scans, upkeep, what is loaded, what is measured, what a source is: looked at
    GENERATIONS = "generations"  # their state, events and pictures: whoever may not read sees his own
    GENERATE = "generate"  # pictures are made, and given up
    MANAGE = "manage"  # all that changes the shelf, the service's settings and files, its tokens


OPENS: Mapping[Scope, frozenset[Area]] = {
    Scope.READ: frozenset({Area.SHELF, Area.WORK, Area.GENERATIONS}),
    Scope.GENERATE: frozenset({Area.SHELF, Area.GENERATIONS, Area.GENERATE}),
    Scope.MANAGE: frozenset({Area.SHELF, Area.WORK, Area.MANAGE}),
}
"""No scope includes another, and each has what its own work needs to see."""


def opening(area: Area) -> list[Scope]:
    """The scopes that open it, one of which is enough."""
    return [scope for scope, areas in OPENS.items() if area in areas]
