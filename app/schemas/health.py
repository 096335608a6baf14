"""Answers of the health checks; the deployment reads them too."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Live(BaseModel):
    status: Literal["live"] = "live"


class Ready(BaseModel):
    """Which release answers, and which of its processes."""

    status: Literal["ready"] = "ready"
    release: str
    sha: str
    pid: int
