"""Responses of the health checks. Slipway reads them in a deployment."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Live(BaseModel):
    status: Literal["live"] = "live"


class Ready(BaseModel):
    """The release that answers, and its worker process."""

    status: Literal["ready"] = "ready"
    release: str
    sha: str
    pid: int
