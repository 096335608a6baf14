"""What the benchmark makes of numbers and reports."""

from __future__ import annotations

import json
import math

import pytest

from bench import load, parts
from bench.figures import Figure, percentile, slope, table

WRK = """Running 20m test @ https://127.0.0.1
  1 threads and 16 connections
  100500 requests in 6.10m, 60.51MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 4
Requests/sec:    274.59
"""


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure("a", "s", [3, 1, 2], [2, 2, 2], target=1.0), True),
        (Figure("a", "s", [3, 4, 2], [2, 2, 2], target=1.4), False),
        (Figure("a", "s", [19, 30, 18], target=20), True),
        (Figure("a", "", [99_999], target=100_000, at_least=True), False),
        (Figure("a", "s", [3]), None),
    ],
)
def test_a_target_limits_the_ratio_of_medians_or_the_median_itself(figure: Figure, met: bool | None) -> None:
    assert figure.is_met is met


def test_a_baseline_of_zero_has_no_ratio() -> None:
    figure = Figure("a", "s", [1], [0], target=3)
    assert (figure.ratio, figure.best_ratio, figure.is_met) == (None, None, None)
    assert "nan" not in table([figure])


def test_percentiles_are_values_that_were_measured() -> None:
    assert [percentile([4, 1, 3, 2], percent) for percent in (50, 99, 0)] == [2, 4, 1]
    assert math.isnan(percentile([], 50))


def test_the_slope_is_what_one_more_costs() -> None:
    assert slope([(1, 2.5), (2, 3.0), (4, 4.0), (8, 6.0)]) == pytest.approx(0.5)


def test_every_kind_of_failure_that_wrk_counts_is_one() -> None:
    assert load.read_wrk(WRK) == load.Wrk(100_500, 3, 4)
    assert load.read_wrk("9 requests in 1s").failed == 0
    with pytest.raises(ValueError, match="did not end"):
        load.read_wrk("unable to connect")


def test_a_rate_counts_only_when_all_requests_succeeded() -> None:
    report = "finished in 1.2s, 8123.45 req/s, 1MB/s\nrequests: 9 total, 9 started, 9 done, {} succeeded, 0 failed"
    assert load.read_h2load(report.format(9)) == 8123.45
    with pytest.raises(ValueError, match="did not succeed"):
        load.read_h2load(report.format(8))


def test_requests_are_told_apart_by_the_seconds_of_the_cutovers() -> None:
    journal = [
        {"deployment": "a", "phase": "switch", "seconds": 0.5, "at": "2026-01-01T00:00:10.700+00:00"},
        {"deployment": "a", "phase": "drain", "seconds": 1.0, "at": "2026-01-01T00:00:12.100+00:00"},
        {"deployment": "b", "phase": "drain", "seconds": 1.0, "at": "2026-01-01T00:00:30.000+00:00"},
    ]
    lines = [
        json.dumps({"time": f"2026-01-01T00:00:{second:02}+00:00", "request_time": second / 1000, "user_agent": agent})
        for second, agent in ((9, ""), (10, ""), (11, "curl"), (12, ""), (13, ""))
    ]
    inside, outside = load.split(load.read_access_log(lines), load.windows(journal, "switch", "drain"))
    assert (inside, outside) == ([10, 12], [9, 13])


def test_every_way_is_the_first_one_as_often_as_another() -> None:
    turns = [parts.in_turns("abc", turn) for turn in range(6)]
    assert ["".join(turn) for turn in turns] == ["abc", "bca", "cab"] * 2
