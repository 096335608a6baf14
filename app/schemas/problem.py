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
    """`type` says what kind of error it is and never changes; asked for, it explains itself."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


class ProblemType(BaseModel):
    """What a type of problem means, and what to do about it."""

    type: str
    status: int
    meaning: str
