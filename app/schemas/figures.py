"""Delivery figures: the four keys of DORA, over a window of days."""

from __future__ import annotations

from datetime import date

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue

EXAMPLE: dict[str, JsonValue] = {
    "since": "2026-10-03T09:00:00Z",
    "until": "2026-11-02T09:00:00Z",
    "deployments": 42,
    "deployments_per_day": 1.3,
    "change_failure_rate": 0.07,
    "median_seconds": 11.2,
    "p95_seconds": 31.0,
    "median_seconds_to_restore": 95.0,
    "days": [{"day": "2026-11-01", "succeeded": 2, "failed": 1, "rolled_back": 0, "median_seconds": 10.9}],
    "complete": True,
}


class Day(BaseModel):
    """Deploys that ended on one day (UTC), by outcome. The median is of all that succeeded, including rollbacks."""

    day: date
    succeeded: int = 0
    failed: int = 0
    rolled_back: int = 0
    median_seconds: float | None = None


class Figures(BaseModel):
    """Figures of the deployments that ended in the window. A figure is null if there are too few deployments for it.

    `deployments` counts deploys, without rollbacks, and `deployments_per_day` those of them that went live.
    `change_failure_rate` is the share of deploys that failed or were rolled back. A time to restore is the time from
    the end of such a deploy to the end of the next successful deploy or rollback of the same service, environment and
    host. `days` has an entry for every day on which a deployment ended. If more than 10,000 ended in the window,
    `complete` is false, and the figures are those of the newest 10,000.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    since: AwareDatetime
    until: AwareDatetime
    deployments: int
    deployments_per_day: float
    change_failure_rate: float | None
    median_seconds: float | None
    p95_seconds: float | None
    median_seconds_to_restore: float | None
    days: list[Day]
    complete: bool
