"""POST /v1/tasks: upkeep over many models, as a job that is watched like the others."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.access import MANAGE, READ
from api.deps import ManagerDep
from api.examples import states
from api.following import LastEventId, follow_row
from api.problems import raises
from api.schemas.tasks import TaskIn, TaskList, TaskOut
from registry import errors
from registry.job_states import ENDED

router = APIRouter(prefix="/v1/tasks", tags=["upkeep"])

TaskId = Annotated[str, Path(description="Of a task.", examples=["0123456789ab"])]


@router.post("", status_code=202, dependencies=[MANAGE], responses=raises(errors.ModelNotFound, errors.QueueFull))
def start_task(manager: ManagerDep, body: TaskIn, response: Response) -> TaskOut:
    """Verify models, hash them, look for newer versions, fetch them, or load checkpoints. Watch `/v1/tasks/{id}/events`."""
    task = manager.submit_task(body.kind, body.models)
    response.headers["Location"] = f"/v1/tasks/{task.id}"
    return TaskOut.of(task)


@router.get("", dependencies=[READ])
def list_tasks(manager: ManagerDep) -> TaskList:
    """The newest hundred since the service started, without what they have found."""
    return TaskList(tasks=[TaskOut.of(task).model_copy(update={"findings": []}) for task in manager.tasks.list()])


@router.get("/{task_id}", dependencies=[READ], responses=raises(errors.TaskNotFound))
def show_task(manager: ManagerDep, task_id: TaskId) -> TaskOut:
    """A task as it stands."""
    return TaskOut.of(manager.tasks.get(task_id))


@router.delete("/{task_id}", dependencies=[MANAGE], responses=raises(errors.TaskNotFound, errors.WrongState))
def cancel_task(manager: ManagerDep, task_id: TaskId) -> TaskOut:
    """End a task with the model that it is at. What it has found stays."""
    return TaskOut.of(manager.tasks.cancel(task_id))


def existing(manager: ManagerDep, task_id: TaskId) -> str:
    """Asked before the stream starts: afterwards a 404 could no longer be answered."""
    return manager.tasks.get(task_id).id


@router.get(
    "/{task_id}/events",
    response_class=EventSourceResponse,
    dependencies=[READ],
    responses={**states(TaskOut, "running", "succeeded"), **raises(errors.TaskNotFound)},
)
async def watch_task(
    manager: ManagerDep, task_id: Annotated[str, Depends(existing)], last_event_id: LastEventId = 0
) -> AsyncIterable[ServerSentEvent]:
    """Server-sent events, named by the task's state, each with the task as data; the last one is its end."""
    async for event in follow_row(lambda: TaskOut.of(manager.tasks.get(task_id)), ENDED, last_event_id):
        yield event
