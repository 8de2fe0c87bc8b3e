"""What is loaded, and where."""

from __future__ import annotations

from dataclasses import asdict
from typing import Self

from pydantic import BaseModel, Field

from registry.backends import Residents


class TierOut(BaseModel):
    name: str = Field(description="device or host", examples=["device"])
    device: str = Field(examples=["cuda:0"])
    budget: int = Field(description="bytes", examples=[17179869184])
    used: int = Field(description="bytes", examples=[2136746230])


class ResidentOut(BaseModel):
    tier: str = Field(examples=["device"])
    digest: str = Field(
        description="BLAKE3 of the model's file or folder; `unhashed-` and more until that is known",
        examples=["c0ffee" * 10],
    )
    name: str = Field(examples=["starter-base"])
    nbytes: int = Field(examples=[2136746230])
    holders: tuple[str, ...] = Field(description="who works with it now", examples=[["generation 0f3a5c7e9b1d"]])
    idle: float = Field(description="seconds since nobody does", examples=[0.0])


class ResidencyOut(BaseModel):
    tiers: list[TierOut]
    models: list[ResidentOut]

    @classmethod
    def of(cls, residents: Residents) -> Self:
        return cls.model_validate(asdict(residents))
