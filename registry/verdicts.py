"""The three answers to "does this adapter fit that checkpoint?"."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """`partly`: some of its tensors have their place in the checkpoint. It is refused like one that does not fit at all."""

    FITS = "fits"
    PARTLY = "partly"
    NO = "no"
