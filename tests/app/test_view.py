from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from app import charts, view
from app.models import Deployment, Service, Status
from app.schemas.deployment import Cursor
from app.schemas.figures import Day

BEGAN = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
SERVICES = {name: Service(name=name, repository_url="") for name in ("billing", "shop")}


def deployment(host: str, version: str, minutes: int, service: str = "billing", actor: str = "alice") -> Deployment:
    return Deployment(
        service=SERVICES[service], environment="prod", host=host, version=version, commit=version * 4, actor=actor,
        status=Status.SUCCEEDED, started_at=BEGAN, finished_at=BEGAN + timedelta(minutes=minutes), phases={},
    )  # fmt: skip


def test_hosts_with_the_same_release_are_one_line() -> None:
    live = [deployment("app1", "v2", 9), deployment("app2", "v2", 3, actor="bo"), deployment("app1", "v1", 1, "shop")]
    found = view.running(live)
    assert list(found) == ["billing", "shop"]
    (line,) = found["billing"]
    assert (line.count, line.hosts, line.actor, line.mixed) == (2, ("app1", "app2"), "bo", False)
    assert line.since == BEGAN + timedelta(minutes=3)


def test_two_releases_in_one_environment_are_marked_as_mixed() -> None:
    found = view.running([deployment("app1", "v1", 1), deployment("app2", "v2", 5), deployment("app3", "v1", 2)])
    assert [(line.version, line.count, line.mixed) for line in found["billing"]] == [("v2", 1, True), ("v1", 2, True)]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "—"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_are_formatted_for_people(seconds: float | None, said: str) -> None:
    assert view.duration(seconds) == said


def test_phases_are_in_slipways_order_and_unknown_ones_last() -> None:
    made = deployment("app1", "v1", 1)
    made.phases = {"switch": 1.0, "stage": 4.0, "smoke": 2.0, "warm": 0.0}
    assert view.phases(made) == [("stage", 4.0, 1.0), ("warm", 0.0, 0.0), ("switch", 1.0, 0.25), ("smoke", 2.0, 0.5)]


def test_a_view_and_its_url_are_the_same() -> None:
    query = view.Query("billing", "prod", Status.FAILED, 7, Cursor(BEGAN, 5))
    pairs = dict(part.split("=") for part in query.url().removeprefix("/?").split("&"))
    assert view.Query.parse(pairs) == query
    assert view.Query().url() == "/"
    assert "before" not in query.url(days=90), "another view begins with the newest"


def test_a_window_has_a_line_for_each_of_its_days() -> None:
    known = Day(day=date(2026, 11, 2), succeeded=1)
    found = view.every_day([known], date(2026, 11, 1), date(2026, 11, 3))
    assert [day.succeeded for day in found] == [0, 1, 0]


def _plot(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314  # of ours


def _days(*days: Day) -> list[Day]:
    return view.every_day(days, date(2026, 11, 1), date(2026, 11, 30))


def test_bars_are_stacked_and_as_high_as_their_counts() -> None:
    svg = _plot(charts.deployments_per_day(_days(Day(day=date(2026, 11, 2), succeeded=3, failed=1))))
    bars = {rect.get("class"): rect for rect in svg.iter("rect") if rect.get("class") != "slot"}
    heights = {name: float(rect.get("height", 0)) for name, rect in bars.items()}
    assert heights["succeeded"] == pytest.approx(3 * heights["failed"], abs=0.2)
    assert float(bars["failed"].get("y", 0)) + heights["failed"] == pytest.approx(
        float(bars["succeeded"].get("y", 0)), abs=0.1
    )
    assert "3 succeeded, 0 rolled back, 1 failed" in (svg.get("aria-label") or "")


@pytest.mark.parametrize("most", [0, 1, 4, 5, 9, 23, 10_000])
def test_an_axis_of_counts_has_few_round_ticks_and_room_for_all(most: int) -> None:
    svg = _plot(charts.deployments_per_day(_days(Day(day=date(2026, 11, 2), succeeded=most))))
    ticks = [int(text.text or "") for text in svg.iter("text") if text.get("x") == "-8"]
    assert len(ticks) <= 5
    assert ticks[-1] >= most
    assert all(float(rect.get("y", 0)) >= charts.TOP for rect in svg.iter("rect"))


def test_days_without_a_median_have_no_dot() -> None:
    days = _days(
        *(Day(day=date(2026, 11, at), succeeded=1, median_seconds=seconds) for at, seconds in ((2, 5), (9, 70)))
    )
    svg = _plot(charts.median_per_day(days))
    assert len(list(svg.iter("circle"))) == 2
    assert sum(line.get("class") == "trend" for line in svg.iter("line")) == 1
    assert "From 5.0 s on 2 Nov to 1 min 10 s on 9 Nov" in (svg.get("aria-label") or "")


@pytest.mark.parametrize("draw", [charts.deployments_per_day, charts.median_per_day])
@pytest.mark.parametrize("days", [8, 31, 91])
def test_an_empty_chart_has_an_axis_with_dates(draw: Callable[[list[Day]], str], days: int) -> None:
    until = date(2026, 11, 30)
    empty = view.every_day([], until - timedelta(days=days - 1), until)
    text = draw(empty)
    dates = [float(x) for x in re.findall(r'x="([\d.]+)%" y="\d+" text-anchor="middle"', text)]
    assert "in this time" in text
    assert len(dates) >= 4
    assert min(left - right for left, right in pairwise(dates)) > 20  # of 290 pixels on a phone
