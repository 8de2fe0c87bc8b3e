"""Upkeep over many models."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field

from api.problems import Problem, told
from api.schemas.common import Body
from registry.tasks import Kind, Task


class TaskIn(Body):
    kind: Kind = Field(
        strict=False,
        description="verify: read every byte again; hash: what has no digests yet; check-updates: ask the Hub; update: install what is "
        "newer there; load: checkpoints.",
        examples=["check-updates"],
    )
    models: list[str] = Field(
        default=[], max_length=1000, description="Ids or names; none: all models.", examples=[["starter-base"]]
    )


class FindingOut(BaseModel):
    model_id: str = Field(examples=["0f3a5c7e9b1d"])
    name: str = Field(examples=["starter-base"])
    outcome: str = Field(description="One of those that are counted.", examples=["damaged"])
    reason: str = Field(description="Empty where the outcome says it all.", examples=["unet/model.safetensors"])


class TaskOut(BaseModel):
    id: str = Field(examples=["0f3a5c7e9b1d"])
    kind: Kind
    state: str = Field(description="queued, running, succeeded, failed or cancelled", examples=["running"])
    done: int = Field(description="Models, of `total`.", examples=[3])
    total: int = Field(examples=[40])
    counts: dict[str, int] = Field(
        description="Outcome -> models: whole, hashed, damaged, missing, unreadable, known; current, newer, gone, unknown, updated, "
        "failed; loaded.",
        examples=[{"whole": 2, "damaged": 1}],
    )
    findings: list[FindingOut] = Field(description="What is not as it should be or has changed, a thousand at most.")
    error: Problem | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, task: Task) -> Self:
        return cls(
            id=task.id,
            kind=task.kind,
            state=task.state,
            done=task.done,
            total=task.total,
            counts=dict(task.counts),
            findings=[FindingOut.model_validate(found, from_attributes=True) for found in task.findings],
            error=told(task.error) if task.error else None,
            created_at=task.created_at,
            updated_at=task.updated_at,
        )


class TaskList(BaseModel):
    tasks: list[TaskOut]
