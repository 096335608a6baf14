"""Deployments in the API's requests and responses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from app.models import Deployment, Kind, Status
from app.schemas.common import EARLIEST, LATEST, MAX_ID, Commit, Environment, Host, Line, Name, Text, Time, Version

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Phase = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False, strict=True)]
Ending = Literal[Status.SUCCEEDED, Status.FAILED, Status.ROLLED_BACK]

STARTED: dict[str, JsonValue] = {
    "service": "billing",
    "environment": "prod",
    "host": "app1.example.com",
    "kind": "deploy",
    "version": "v1.4.0",
    "commit": "5f2c1d9a7b3e4f60c8d21a9be07f4c6d3a5b8e12",
    "actor": "alice@workstation",
    "started_at": "2026-11-02T09:00:00Z",
    "detail": "",
}
FINISHED: dict[str, JsonValue] = {
    "status": "succeeded",
    "finished_at": "2026-11-02T09:00:12.5Z",
    "phases": {"stage": 4.1, "migrate": 0.6, "start": 1.7, "switch": 0.1},
    "detail": "v1.3.0 → v1.4.0 in 6.5 s, 0 of 412 requests failed.",
}


class DeploymentCreate(BaseModel):
    """A deployment that has begun. The default of `started_at` is now."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [STARTED]})

    service: Name
    environment: Environment
    host: Host = ""
    kind: Kind = Kind.DEPLOY
    version: Version
    commit: Commit
    actor: Line
    started_at: Time | None = None
    detail: Text = ""


class DeploymentFinish(BaseModel):
    """How a deployment ended. The default of `finished_at` is now. `phases` has the seconds of each phase, by name."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [FINISHED]})

    status: Ending
    finished_at: Time | None = None
    phases: Annotated[
        dict[Phase, Seconds], Field(max_length=50, json_schema_extra={"additionalProperties": False})
    ] = {}
    detail: Text = ""


class DeploymentRead(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"id": 7, **STARTED, **FINISHED, "seconds": 12.5}]})

    id: int
    service: str
    environment: str
    host: str
    kind: Kind
    version: str
    commit: str
    actor: str
    status: Status
    started_at: AwareDatetime
    finished_at: AwareDatetime | None
    seconds: float | None
    phases: dict[str, float]
    detail: str

    @classmethod
    def of(cls, deployment: Deployment) -> Self:
        """From a row whose service is loaded."""
        values: dict[str, Any] = {name: getattr(deployment, name) for name in cls.model_fields if name != "service"}
        return cls(service=deployment.service.name, **values)


class DeploymentPage(BaseModel):
    """Deployments, newest start first. `next_before` is the parameter `before` of the next page, or null."""

    items: list[DeploymentRead]
    next_before: str | None


class LiveDeployments(BaseModel):
    """The live releases: for each service, environment and host the last deployment that succeeded.

    There are at most `limit` of them; if there are more, `complete` is false.
    """

    items: list[DeploymentRead]
    complete: bool


@dataclass(frozen=True)
class Cursor:
    """The position of a deployment in the list: its start and its id. As text: `microseconds-id`."""

    started_at: datetime
    id: int

    PATTERN = r"^-?[0-9]{1,18}-[0-9]{1,19}$"

    def __str__(self) -> str:
        return f"{(self.started_at - EPOCH) // timedelta(microseconds=1)}-{self.id}"

    @classmethod
    def of(cls, deployment: Deployment) -> Self:
        return cls(deployment.started_at, deployment.id)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a cursor; ValueError for other text. A time out of range becomes the earliest or latest one."""
        if not re.match(cls.PATTERN, text):
            raise ValueError(f"'{text}' is not a cursor of this API")
        microseconds, number = (int(part) for part in text.rsplit("-", 1))
        try:
            started_at = EPOCH + timedelta(microseconds=microseconds)
        except OverflowError:
            started_at = LATEST if microseconds > 0 else EARLIEST
        return cls(started_at, min(number, MAX_ID))


@dataclass(frozen=True)
class Filter:
    """Selects deployments: every field that is not None has to match."""

    service: str | None = None
    environment: str | None = None
    host: str | None = None
    version: str | None = None
    status: Status | None = None
    kind: Kind | None = None
    since: datetime | None = None  # started at this time or later
