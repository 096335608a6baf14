"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

EXAMPLE: dict[str, JsonValue] = {
    "type": "/problems/not-found",
    "title": "Not found",
    "status": 404,
    "detail": "There is no service 7.",
}


class Problem(BaseModel):
    """An error. `type` is the kind of error and never changes; GET it for an explanation."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


class ProblemType(BaseModel):
    """A type of problem: its meaning, and what to do about it."""

    type: str
    status: int
    meaning: str
