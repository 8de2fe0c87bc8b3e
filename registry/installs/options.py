"""How a person wants a source installed; kept with the install, so that whoever goes on with it does as was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from registry.errors import InvalidRequest
from registry.sources import PathSource, Source
from registry.words import check_words, words_of


class Place(StrEnum):
    """What becomes of a file or folder on this machine.

    `move`: once the shelf has it, its own files there are removed. `in_place`: registered where it lies, as a scan does.
    """

    COPY = "copy"
    MOVE = "move"
    IN_PLACE = "in_place"


@dataclass(frozen=True, slots=True)
class Options:
    """`variant`: of a pipeline's weights, as diffusers calls it (`fp16`), where there are several precisions; None: the unmarked one.

    `family`, `kind`: what the user says that it is, where its header leaves that open (registry/words.py).
    `confined`: asked for over the network, so that of this machine only some folders are read (registry/installs/folders.py).
    """

    place: Place = Place.COPY
    variant: str | None = None
    confined: bool = False
    family: str | None = None
    kind: str | None = None

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Self:
        place, confined = Place(recorded.get("place", Place.COPY)), recorded.get("confined", False)
        return cls(place, recorded.get("variant"), confined, **words_of(recorded))

    def as_dict(self) -> dict[str, Any]:
        """Only what differs from the defaults."""
        values = {"place": str(self.place), "variant": self.variant, "confined": self.confined, **self.words}
        return {name: value for name, value in values.items() if value != getattr(AS_USUAL, name)}

    @property
    def words(self) -> dict[str, str]:
        return words_of({"family": self.family, "kind": self.kind})

    def check(self, source: Source) -> None:
        """Raises InvalidRequest."""
        check_words(self.words)
        if self.place is not Place.COPY and not isinstance(source, PathSource):
            raise InvalidRequest(
                f"{source} is not on this machine: it can only be copied ({self.place} is for files and folders).",
                field="place",
            )


AS_USUAL = Options()
