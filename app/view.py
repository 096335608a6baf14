"""The values that the page shows, from its URL and the results of the services. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any, Self
from urllib.parse import urlencode

from pydantic import TypeAdapter

from app.models import Deployment, Status
from app.schemas.common import Environment, Name
from app.schemas.deployment import Cursor
from app.schemas.figures import Day

WINDOWS = (7, 30, 90)  # days
DEFAULT_WINDOW = 30
SHORT = 8  # characters of a commit
# In the order in which Slipway runs them. "warm" is the name of "start" in older versions.
PHASES = ("resolve", "stage", "migrate", "warm", "start", "switch", "watch", "drain", "prune")

_NAME: TypeAdapter[str] = TypeAdapter(Name)
_ENVIRONMENT: TypeAdapter[str] = TypeAdapter(Environment)


@dataclass(frozen=True)
class Query:
    """The parameters of a URL. Invalid ones are ignored, and `notes` has a sentence for each of them."""

    service: str | None = None
    environment: str | None = None
    status: Status | None = None
    days: int = DEFAULT_WINDOW
    before: Cursor | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        values: dict[str, Any] = {}
        notes = []
        for name, (read, meant) in _FIELDS.items():
            if text := given.get(name, ""):
                try:
                    values[name] = read(text)
                except ValueError:  # pydantic's ValidationError is one
                    notes.append(meant)
        return cls(**values, notes=tuple(notes))

    @property
    def is_narrow(self) -> bool:
        return bool(self.service or self.environment or self.status or self.before)

    def url(self, **changes: Any) -> str:
        """The URL of this view, or of one with `changes`, which begins with the newest deployment."""
        wanted = replace(self, **{"before": None, **changes}) if changes else self
        pairs = {
            "service": wanted.service,
            "environment": wanted.environment,
            "status": wanted.status,
            "days": wanted.days if wanted.days != DEFAULT_WINDOW else None,
            "before": wanted.before,
        }
        query = urlencode({name: str(value) for name, value in pairs.items() if value is not None})
        return f"/?{query}" if query else "/"


def _window(text: str) -> int:
    if text not in map(str, WINDOWS):
        raise ValueError("not one of the windows")
    return int(text)


_FIELDS: dict[str, tuple[Any, str]] = {
    "service": (_NAME.validate_python, "The service in the URL is not a valid name, so all services are shown."),
    "environment": (
        _ENVIRONMENT.validate_python,
        "The environment in the URL is not a valid name, so all environments are shown.",
    ),
    "status": (Status, "The status in the URL is not started, succeeded, failed or rolled_back, so all are shown."),
    "days": (_window, f"The days in the URL are not 7, 30 or 90, so the figures are of {DEFAULT_WINDOW} days."),
    "before": (Cursor.parse, "The position in the URL is not valid, so the newest deployments are shown."),
}


@dataclass(frozen=True)
class Running:
    """One release in one environment, on one host or several."""

    environment: str
    version: str
    commit: str
    hosts: tuple[str, ...]  # without hosts that have no name
    count: int
    since: datetime
    actor: str
    mixed: bool  # another release runs in the same environment


def running(live: Iterable[Deployment]) -> dict[str, list[Running]]:
    """The live releases, by service. A release counts as live since its first host has it."""
    found: dict[str, list[Running]] = {}
    for (service, environment), deployments in groupby(live, key=lambda each: (each.service.name, each.environment)):
        releases: dict[tuple[str, str], list[Deployment]] = {}
        for deployment in deployments:
            releases.setdefault((deployment.version, deployment.commit), []).append(deployment)
        rows = [_running(environment, same, mixed=len(releases) > 1) for same in releases.values()]
        found.setdefault(service, []).extend(sorted(rows, key=lambda row: row.since, reverse=True))
    return found


def _running(environment: str, same: list[Deployment], *, mixed: bool) -> Running:
    first = min(same, key=_ended)
    hosts = tuple(each.host for each in same if each.host)
    return Running(environment, first.version, first.commit, hosts, len(same), _ended(first), first.actor, mixed)


def _ended(deployment: Deployment) -> datetime:
    return deployment.finished_at or deployment.started_at


def by_day(deployments: Iterable[Deployment]) -> list[tuple[date, list[Deployment]]]:
    """Deployments grouped by the day (UTC) on which they started, in the given order."""
    return [(day, list(same)) for day, same in groupby(deployments, key=lambda each: each.started_at.date())]


def phases(deployment: Deployment) -> list[tuple[str, float, float]]:
    """Name, seconds and share of the longest phase, in the order in which Slipway runs them.

    They are sorted here, as PostgreSQL does not keep the order of an object's keys.
    """
    order = {name: place for place, name in enumerate(PHASES)}
    found = sorted(deployment.phases.items(), key=lambda item: order.get(item[0], len(order)))
    longest = max((seconds for _, seconds in found), default=0)
    return [(name, seconds, seconds / longest if longest else 0) for name, seconds in found]


def every_day(days: Iterable[Day], since: date, until: date) -> list[Day]:
    """An entry for each day of a window, also for days on which no deployment ended."""
    known = {day.day: day for day in days}
    return [known.get(day) or Day(day=day) for day in _dates(since, until)]


def _dates(since: date, until: date) -> Iterator[date]:
    return (since + timedelta(days=number) for number in range((until - since).days + 1))


def duration(seconds: float | None) -> str:
    """A duration for people: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min, 4 d 3 h."""
    if seconds is None:
        return "—"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, lower, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {lower}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def short_date(day: date, *, today: date) -> str:
    """A date for people: 3 Nov, with the year if it is not this year."""
    return f"{day.day} {day:%b}" if day.year == today.year else f"{day.day} {day:%b %Y}"


def stamp(moment: datetime, *, today: date) -> str:
    return f"{short_date(moment.date(), today=today)}, {moment:%H:%M}"
