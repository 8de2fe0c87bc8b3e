"""What is there twice, what belongs to nothing, and what stands in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field

from api.paging import page
from api.schemas.models import ModelOut
from registry import upkeep
from registry.checkup import Check, Verdict


class DuplicateOut(BaseModel):
    same: Literal["file", "weights"] = Field(
        description="file: every byte; weights: only the headers differ.", examples=["weights"]
    )
    digest: str = Field(description="BLAKE3 of the file or folder; AutoV3 of the weights.", examples=["c0ffee" * 10])
    models: list[ModelOut]


class Duplicates(BaseModel):
    duplicates: list[DuplicateOut] = Field(description="The largest first.")
    unhashed: int = Field(description="Models without digests, which were not compared.", examples=[0])
    next: str | None = Field(description="`cursor` of the next page; null: this is the last.")

    @classmethod
    def of(cls, found: list[upkeep.Duplicates], unhashed: int, limit: int, cursor: str | None) -> Self:
        shown, following = page(found, _largest_first, limit, cursor)
        groups = [
            DuplicateOut.model_validate(
                {"same": g.same, "digest": g.digest, "models": [ModelOut.of(model) for model in g.models]}
            )
            for g in shown
        ]
        return cls(duplicates=groups, unhashed=unhashed, next=following)


def _largest_first(group: upkeep.Duplicates) -> str:
    return f"{2**63 - group.models[0].size:019d}.{group.digest}"


class WasteFile(BaseModel):
    path: str = Field(description="Relative to the service's root.", examples=["lora/sd-1/forgotten.safetensors"])
    size: int = Field(description="bytes", examples=[178272])


class WasteOut(BaseModel):
    """What no model and no install refers to, of the files that modelshelf itself has made."""

    files: list[WasteFile]
    count: int = Field(description="Of all the files, on all pages.", examples=[1])
    size: int = Field(description="bytes, of all of them", examples=[178272])
    verdicts: int = Field(description="Kept answers to what fits what, about models that are gone.", examples=[0])
    next: str | None = Field(description="`cursor` of the next page; null: this is the last.")

    @classmethod
    def of(cls, waste: upkeep.Waste, root: Path, limit: int, cursor: str | None) -> Self:
        every = [WasteFile(path=_relative(path, root), size=size) for path, size in waste.files]
        shown, following = page(every, lambda file: file.path, limit, cursor)
        return cls(files=shown, next=following, count=len(every), size=waste.size, verdicts=waste.verdicts)


def _relative(path: Path, root: Path) -> str:
    """As text: a name on a disk may be none."""
    return path.relative_to(root).as_posix().encode(errors="replace").decode()


class RemovedOut(BaseModel):
    count: int = Field(description="Of files.", examples=[1])
    size: int = Field(description="bytes", examples=[178272])
    verdicts: int = Field(description="Kept answers to what fits what, about models that are gone.", examples=[0])

    @classmethod
    def of(cls, removed: upkeep.Waste) -> Self:
        return cls(count=len(removed.files), size=removed.size, verdicts=removed.verdicts)


class CheckOut(BaseModel):
    name: str = Field(description="What was looked at.", examples=["free space"])
    verdict: Verdict = Field(description="note: worth knowing, and nothing fails because of it.", examples=["note"])
    found: str = Field(examples=["12.3 GB"])
    advice: str = Field(
        description="What to do; empty: nothing.", examples=["A large checkpoint needs 20 GB while it arrives."]
    )

    @classmethod
    def of(cls, check: Check) -> Self:
        return cls(**check._asdict())


class DoctorOut(BaseModel):
    checks: list[CheckOut]
