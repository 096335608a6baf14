"""The page's charts as SVG, drawn on the server: without scripts and without style attributes.

Horizontal lengths are percentages and vertical ones are pixels: a chart is as wide as its container, and its text is
not scaled. The stylesheet defines the space for the axis on the left, and the colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import count, pairwise

from markupsafe import Markup, escape

from app.schemas.figures import Day
from app.view import duration

PLOT_HEIGHT = 148  # pixels
TOP, AXIS = 10, 24  # pixels above the plot and below it
TICKS = 4  # at most, above zero

# From the axis upwards: the name in the figures, and the name for people.
OUTCOMES = {"succeeded": "succeeded", "rolled_back": "rolled back", "failed": "failed"}

ALL_VALUES = "All values are in the table below."


def deployments_per_day(days: Sequence[Day]) -> Markup:
    """Bars of the deploys that ended on each day, stacked by outcome."""
    top, lines = _scale(max((_total(day) for day in days), default=0), _count_steps(), str)
    marks = [_bar(day, place, len(days), top) for place, day in enumerate(days)]
    return _svg("Deployments per day", _count_summary(days), days, lines, marks)


def median_per_day(days: Sequence[Day]) -> Markup:
    """A dot for the median duration of each day with a success, and lines between the dots."""
    known = [(place, day) for place, day in enumerate(days) if day.median_seconds is not None]
    values = [day.median_seconds or 0 for _, day in known]
    top, lines = _scale(max(values, default=0), _time_steps(), _round_time)
    points = [(_middle(place, len(days)), _y(value, top)) for (place, _), value in zip(known, values, strict=True)]
    marks = [
        f'<line class="trend" x1="{x1:.2f}%" y1="{y1:.1f}" x2="{x2:.2f}%" y2="{y2:.1f}"/>'
        for (x1, y1), (x2, y2) in pairwise(points)
    ]
    for (place, day), (x, y) in zip(known, points, strict=True):
        dot = f'<circle class="dot" cx="{x:.2f}%" cy="{y:.1f}" r="3"/>'
        marks.append(_slot(f"{_date(day)}: {duration(day.median_seconds)}", place, len(days), dot))
    return _svg("Median duration per day", _time_summary(known), days, lines, marks)


def _svg(name: str, summary: str, days: Sequence[Day], lines: Iterable[str], marks: Iterable[str]) -> Markup:
    height = TOP + PLOT_HEIGHT + AXIS
    inner = "".join([*lines, *marks, *_dates(days)])
    return Markup(  # noqa: S704  # only numbers and dates, and escaped text
        f'<svg class="plot" width="100%" height="{height}" role="img" aria-label="{escape(f"{name}. {summary}")}">'
        f"{inner}</svg>"
    )


def _bar(day: Day, place: int, of: int, top: float) -> str:
    if not _total(day):
        return ""
    width = 100 / of * (0.36 if of < 10 else 0.64)
    left, lower = _middle(place, of) - width / 2, 0
    parts = []
    for outcome in OUTCOMES:
        if number := getattr(day, outcome):
            y, height = _y(lower + number, top), _y(lower, top) - _y(lower + number, top)
            parts.append(
                f'<rect class="{outcome}" x="{left:.2f}%" y="{y:.1f}" width="{width:.2f}%" height="{height:.1f}"/>'
            )
            lower += number
    said = ", ".join(f"{getattr(day, name)} {word}" for name, word in OUTCOMES.items() if getattr(day, name))
    return _slot(f"{_date(day)}: {said}", place, of, "".join(parts))


def _slot(title: str, place: int, of: int, marks: str) -> str:
    """A day's part of the chart, with its values as a tooltip."""
    area = f'<rect class="slot" x="{100 * place / of:.2f}%" y="{TOP}" width="{100 / of:.2f}%" height="{PLOT_HEIGHT}"/>'
    return f"<g><title>{escape(title)}</title>{area}{marks}</g>"


def _scale(most: float, steps: Iterable[float], say: Callable[[float], str]) -> tuple[float, list[str]]:
    """The value at the top, and the horizontal lines with their labels."""
    step = next(step for step in steps if most <= step * TICKS)
    ticks = [step * number for number in range(max(1, math.ceil(most / step)) + 1)]
    lines = []
    for tick in ticks:
        y = _y(tick, ticks[-1])
        lines.append(f'<line class="{"grid" if tick else "base"}" x1="0" y1="{y:.1f}" x2="100%" y2="{y:.1f}"/>')
        lines.append(f'<text x="-8" y="{y + 4:.1f}" text-anchor="end">{say(tick) if tick else 0}</text>')
    return ticks[-1], lines


def _count_steps() -> Iterable[int]:
    return (factor * 10**power for power in count() for factor in (1, 2, 5))


def _time_steps() -> Iterable[float]:
    """Steps in seconds that are round numbers for people."""
    yield from (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 6 * 3600, 12 * 3600)
    yield from (factor * 86400 for factor in _count_steps())


def _round_time(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 60 else duration(seconds)


def _dates(days: Sequence[Day]) -> Iterable[str]:
    """Labels below the axis, counted back from the last day."""
    step = 1 if len(days) < 5 else max(2, 7 * round(len(days) / 28))
    for place in range(len(days) - 1, -1, -step):
        x, y = _middle(place, len(days)), TOP + PLOT_HEIGHT + 18
        yield f'<text x="{x:.2f}%" y="{y}" text-anchor="middle">{_date(days[place])}</text>'


def _count_summary(days: Sequence[Day]) -> str:
    sums = {name: sum(getattr(day, name) for day in days) for name in OUTCOMES}
    said = ", ".join(f"{sums[name]} {word}" for name, word in OUTCOMES.items())
    busiest = max(days, key=_total, default=None)
    if busiest is None or not _total(busiest):
        return "No deployment ended in this time."
    return f"{said}. The most on one day were {_total(busiest)}, on {_date(busiest)}. {ALL_VALUES}"


def _time_summary(known: Sequence[tuple[int, Day]]) -> str:
    if not known:
        return "No deployment succeeded in this time."
    ordered = sorted((day for _, day in known), key=lambda day: day.median_seconds or 0)
    low, high = ordered[0], ordered[-1]
    return (
        f"From {duration(low.median_seconds)} on {_date(low)} to {duration(high.median_seconds)} on {_date(high)}. "
        + ALL_VALUES
    )


def _total(day: Day) -> int:
    return day.succeeded + day.failed + day.rolled_back


def _middle(place: int, of: int) -> float:
    return 100 * (place + 0.5) / of


def _y(value: float, top: float) -> float:
    return TOP + PLOT_HEIGHT * (1 - value / top)


def _date(day: Day) -> str:
    return f"{day.day.day} {day.day:%b}"
