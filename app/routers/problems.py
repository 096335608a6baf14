"""/problems: explanations of the types of errors."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from app.errors import TYPES, NotFoundError, documented
from app.schemas.problem import ProblemType

router = APIRouter(prefix="/problems", tags=["problems"])


@router.get("/{name}", responses=documented("not-found", "invalid-request"))
async def show(name: Annotated[str, Path(max_length=50, examples=["not-found"])]) -> ProblemType:
    """Explain an error of this type."""
    if name not in TYPES:
        raise NotFoundError(f"There is no type of problem '{name}'.")
    status, meaning = TYPES[name]
    return ProblemType(type=f"/problems/{name}", status=status, meaning=meaning)
