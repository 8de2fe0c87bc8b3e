"""What is loaded, and where."""

from __future__ import annotations

from dataclasses import asdict
from typing import Self

from pydantic import BaseModel, Field

from registry.backends import Residents


class TierOut(BaseModel):
    name: str = Field(description="device or host")
    device: str
    budget: int = Field(description="bytes")
    used: int = Field(description="bytes")


class ResidentOut(BaseModel):
    tier: str
    digest: str = Field(description="BLAKE3 of the model's file or folder")
    name: str
    nbytes: int
    holders: tuple[str, ...] = Field(description="who works with it now")
    idle: float = Field(description="seconds since nobody does")


class ResidencyOut(BaseModel):
    tiers: list[TierOut]
    models: list[ResidentOut]

    @classmethod
    def of(cls, residents: Residents) -> Self:
        return cls.model_validate(asdict(residents))
