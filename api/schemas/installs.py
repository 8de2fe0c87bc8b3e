"""Sources that are probed or installed, and folders that are scanned."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from api.problems import Problem, recorded, told
from api.schemas.common import REPORT, Body, Family, Sayable
from api.schemas.models import FitOut, ModelOut
from registry.installs.inquiry import Inquiry
from registry.installs.options import Place
from registry.installs.states import InstallPage
from registry.sources import without_signature
from registry.tables import Install, ScanRow


class ProbeIn(Body):
    source: str = Field(examples=["https://huggingface.co/latent-consistency/lcm-lora-sdv1-5"], min_length=1)
    family: Family | None = None
    kind: Sayable | None = None


class ProbeOut(BaseModel):
    source: str = Field(
        description="Canonical, with the commit.",
        examples=["hf://latent-consistency/lcm-lora-sdv1-5@c0ffee/pytorch_lora_weights.safetensors"],
    )
    name: str = Field(examples=["lcm-lora-sdv1-5"])
    size: int = Field(description="Bytes that an install would fetch.", examples=[134621556])
    kind: str | None = Field(examples=["lcm_lora"])
    family: str | None = Field(examples=["sd-1"])
    variant: str | None
    variants: list[str] = Field(
        description="Of a pipeline's weights: what `variant` of an install may be.", examples=[["fp16"]]
    )
    report: dict[str, Any] = Field(description="The probe's whole answer, with its evidence.", examples=[REPORT])
    refusal: Problem | None = Field(description="Why it would not be installed.")
    installed: ModelOut | None = Field(description="The same model, if it is installed already.")
    checkpoints: list[FitOut] = Field(description="Of a LoRA: the installed checkpoints of its family.")

    @classmethod
    def of(cls, found: Inquiry) -> Self:
        candidate, report = found.candidate, found.candidate.report
        return cls(
            source=candidate.listing.source,
            name=candidate.selection.name,
            size=candidate.selection.size,
            kind=report.kind,
            family=report.family,
            variant=report.variant,
            variants=[*candidate.selection.variants],
            report=report.as_dict(),
            refusal=found.refusal and told(found.refusal),
            installed=found.installed and ModelOut.of(found.installed),
            checkpoints=[FitOut.of(model, fit) for model, fit in found.fits],
        )


class InstallIn(Body):
    source: str = Field(examples=["https://huggingface.co/latent-consistency/lcm-lora-sdv1-5"], min_length=1)
    place: Place = Field(
        default=Place.COPY,
        strict=False,
        description="Of a file or folder on the server: whether it is copied, moved, or registered where it lies.",
    )
    variant: str | None = Field(
        default=None,
        description="Of a pipeline's weights that are there in several precisions, such as fp16. Left out: the unmarked ones.",
        pattern=r"^\w+$",
    )
    family: Family | None = None
    kind: Sayable | None = None


class InstallOut(BaseModel):
    id: str = Field(examples=["0f3a5c7e9b1d"])
    state: str = Field(examples=["downloading"])
    source: str = Field(examples=["hf://modelshelf/starter-base"])
    bytes_done: int = Field(examples=[1048576])
    bytes_total: int = Field(examples=[4194304])
    bytes_per_second: float | None = Field(description="Of the transfer that runs.")
    seconds_left: float | None = Field(description="At that rate.")
    filename: str | None = Field(description="The file that arrives.")
    notes: list[str] = Field(description="What is worth knowing of the outcome.", examples=[[]])
    error: Problem | None
    model_id: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, install: Install) -> Self:
        error = None if install.error is None else recorded(install.error)
        rate, missing = install.bytes_per_second, install.bytes_total - install.bytes_done
        left = round(missing / rate, 1) if rate and missing > 0 else None
        facts = install.model_dump(include=set(cls.model_fields) - {"error", "seconds_left"})
        facts["source"] = without_signature(install.source)
        return cls(error=error, seconds_left=left, **facts)


class InstallList(BaseModel):
    installs: list[InstallOut]
    next: str | None = Field(description="`cursor` of the next page; null: this is the last.")

    @classmethod
    def of(cls, page: InstallPage) -> Self:
        return cls(installs=[InstallOut.of(install) for install in page.installs], next=page.cursor)


class ScanIn(Body):
    folder: str = Field(
        description="Absolute path on the server, in a folder that may be scanned.",
        min_length=1,
        max_length=4096,
        examples=["/models/loras"],
    )
    afresh: bool = Field(default=False, description="Look at unchanged files again, too.")


class SkipOut(BaseModel):
    reason: str = Field(
        description="What is the matter with the files, or the kind that they are of.", examples=["pickle"]
    )
    count: int = Field(examples=[2])
    examples: list[str] = Field(description="Some of their paths.", examples=[["/models/loras/old.ckpt"]])


class ScanOut(BaseModel):
    id: str = Field(examples=["0f3a5c7e9b1d"])
    folder: str = Field(examples=["/models/loras"])
    state: str = Field(examples=["done"])
    counts: dict[str, int] = Field(
        description="Models: unchanged, added, changed, moved, missing; files skipped.",
        examples=[{"added": 2, "unchanged": 40, "skipped": 1}],
    )
    skips: list[SkipOut] = Field(description="The skipped files, by reason.")
    error: Problem | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, scan: ScanRow) -> Self:
        error = None if scan.error is None else recorded(scan.error)
        return cls(error=error, **scan.model_dump(include=set(cls.model_fields) - {"error"}))


class ScanList(BaseModel):
    scans: list[ScanOut] = Field(description="The newest first, 100 at most.")
    folders: list[str] = Field(
        description="That were ever scanned, the last one first, 1000 at most.", examples=[["/models/loras"]]
    )
