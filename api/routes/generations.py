"""POST /v1/generations: pictures, and the Plan that made them."""

from __future__ import annotations

from fastapi import APIRouter

from api.deps import ManagerDep
from api.schemas import GenerationIn, GenerationOut

router = APIRouter(prefix="/v1/generations", tags=["generations"])


@router.post("")
def generate(manager: ManagerDep, body: GenerationIn) -> GenerationOut:
    """Values left out are decided by the recipes; the answer's `plan` says for each where it came from."""
    return GenerationOut.of(manager.generator.generate(body.request()))
