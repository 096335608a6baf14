"""The results: medians, ratios, and whether a target is met."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Figure:
    """One line of the table: the measured values, the baseline from the same run if there is one, and the target.

    `target` is the upper limit of the ratio to the baseline, or of the median if there is no baseline. With `at_least`
    it is a lower limit.
    """

    name: str
    unit: str
    values: list[float]
    baseline: list[float] = field(default_factory=list)
    target: float | None = None
    at_least: bool = False

    @property
    def ratio(self) -> float | None:
        """The ratio of the medians; None without a baseline, or if it is zero."""
        if not self.baseline or not (below := statistics.median(self.baseline)):
            return None
        return statistics.median(self.values) / below

    @property
    def best_ratio(self) -> float | None:
        """The ratio of the minima, on which other work on the machine has the least influence."""
        if not self.baseline or not min(self.baseline):
            return None
        return min(self.values) / min(self.baseline)

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None if there is no target."""
        measured = self.ratio if self.baseline else statistics.median(self.values)
        if self.target is None or measured is None:
            return None
        return measured >= self.target if self.at_least else measured <= self.target

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "values": [round(value, 4) for value in self.values],
            "baseline": [round(value, 4) for value in self.baseline],
            "ratio": self.ratio and round(self.ratio, 3),
            "ratio_of_minima": self.best_ratio and round(self.best_ratio, 3),
            "target": self.target,
            "met": self.is_met,
        }


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that `percent` per cent of the values do not exceed; NaN if there are no values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else math.nan


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of y over x, by least squares: the cost of one more host."""
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def table(figures: Iterable[Figure]) -> str:
    """The table: median (minimum-maximum), the same of the baseline, ratio (of minima), target, result."""
    rows = [("", "measured", "baseline", "ratio (minima)", "target", "")]
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} ({figure.best_ratio or math.nan:.2f})"
        limit = "" if figure.target is None else f"{'>=' if figure.at_least else '<='} {figure.target:g}"
        verdict = {None: "", True: "met", False: "MISSED"}[figure.is_met]
        rows.append(
            (
                figure.name,
                _spread(figure.values, figure.unit),
                _spread(figure.baseline, figure.unit),
                ratio,
                limit,
                verdict,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _spread(values: Sequence[float], unit: str) -> str:
    if not values:
        return ""
    middle = f"{_number(statistics.median(values))} {unit}".rstrip()
    return middle if len(values) == 1 else f"{middle} ({_number(min(values))}-{_number(max(values))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"
