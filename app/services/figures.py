"""Delivery figures: how often, how reliably and how fast a team deploys changes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Deployment, Kind, Status
from app.schemas.deployment import Filter
from app.schemas.figures import Day, Figures
from app.services.deployments import conditions

MOST = 10_000  # deployments that are counted at most, so that a large count does not delay other requests

Place = tuple[int, str, str]  # service, environment, host


class End(NamedTuple):
    """The end of a deployment."""

    place: Place
    kind: str
    status: str
    seconds: float
    at: datetime


async def measure(
    session: AsyncSession, service: str | None, environment: str | None, days: int, now: datetime | None = None
) -> Figures:
    """The figures of the last `days` days, for one service, one environment or all."""
    until = now or datetime.now(UTC)
    since = until - timedelta(days=days)
    columns = (
        Deployment.service_id,
        Deployment.environment,
        Deployment.host,
        Deployment.kind,
        Deployment.status,
        Deployment.seconds,
        Deployment.finished_at,
    )
    query = (
        select(*columns)
        .where(*conditions(Filter(service=service, environment=environment)))
        .where(Deployment.finished_at > since, Deployment.finished_at <= until)
        .order_by(Deployment.finished_at.desc(), Deployment.id.desc())
        .limit(MOST + 1)
    )
    rows = (await session.execute(query)).all()
    ends = [
        End((service_id, name, host), kind, status, seconds or 0.0, at)
        for service_id, name, host, kind, status, seconds, at in reversed(rows[:MOST])
        if at is not None
    ]
    return summarise(ends, since, until, complete=len(rows) <= MOST)


def summarise(ends: Sequence[End], since: datetime, until: datetime, *, complete: bool) -> Figures:
    """The figures of `ends`, which must be in the order of time."""
    deploys = [end for end in ends if end.kind == Kind.DEPLOY]
    failed = [end for end in deploys if end.status != Status.SUCCEEDED]
    went_live = [end for end in deploys if end.status != Status.FAILED]
    seconds = [end.seconds for end in ends if end.status == Status.SUCCEEDED]
    restored = list(_restored(ends))
    return Figures(
        since=since,
        until=until,
        deployments=len(deploys),
        deployments_per_day=len(went_live) / ((until - since) / timedelta(days=1)),
        change_failure_rate=len(failed) / len(deploys) if deploys else None,
        median_seconds=median(seconds) if seconds else None,
        p95_seconds=percentile(seconds, 95),
        median_seconds_to_restore=median(restored) if restored else None,
        days=_by_day(ends),
        complete=complete,
    )


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that `percent` per cent of the values do not exceed; None if there are no values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def _restored(ends: Iterable[End]) -> Iterable[float]:
    """Seconds from each deploy that failed or was rolled back to the next success at the same place.

    Of several failures in a row only the first one counts.
    """
    broken: dict[Place, datetime] = {}
    for end in ends:
        if end.status == Status.SUCCEEDED:
            if (since := broken.pop(end.place, None)) is not None:
                yield (end.at - since).total_seconds()
        elif end.kind == Kind.DEPLOY:
            broken.setdefault(end.place, end.at)


def _by_day(ends: Iterable[End]) -> list[Day]:
    days: dict[date, Day] = {}
    seconds: dict[date, list[float]] = defaultdict(list)
    for end in ends:
        day = days.setdefault(end.at.date(), Day(day=end.at.date()))
        if end.kind == Kind.DEPLOY:
            setattr(day, end.status, getattr(day, end.status) + 1)
        if end.status == Status.SUCCEEDED:
            seconds[day.day].append(end.seconds)
    for day in days.values():
        day.median_seconds = median(seconds[day.day]) if seconds[day.day] else None
    return list(days.values())
