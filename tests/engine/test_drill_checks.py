"""What a drill takes for a backup that holds what it should."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slipway.backup import drill, drill_checks
from slipway.backup.drill_checks import Seen
from slipway.base.errors import FailedError

NOW = 1_000_000.0
LIVE: dict[str, dict[str, Any]] = {
    "shop": {"revisions": {"alembic_version": "0004"}, "rows": {"orders": 50_000, "notes": 3}},
    "slipway_host": {"revisions": {}, "rows": {"heartbeat": 1}},
}
RESTORED: dict[str, Any] = {
    "databases": {
        "shop": {"revisions": {"alembic_version": "0004"}, "rows": {"orders": 49_000, "notes": 2}},
        "slipway_host": {"revisions": {}, "rows": {"heartbeat": 1}},
    },
    "heartbeat": NOW - 60,
    "step": "amcheck",
    "log": ["LOG:  archive recovery complete"],
}
GOOD = Seen(RESTORED, LIVE, NOW, 900)


def _with(**changes: Any) -> Seen:
    return replace(GOOD, restored={**RESTORED, **changes})


def _without(*names: str) -> Seen:
    return replace(GOOD, restored={name: value for name, value in RESTORED.items() if name not in names})


def test_a_good_backup_has_no_problem() -> None:
    assert drill_checks.problems(GOOD) == []


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (_with(heartbeat=NOW - 901), "What was restored is 15 min old, and 15 min are allowed"),
        (_with(heartbeat=NOW + 86400), "24 h ahead of the clock"),
        (_with(heartbeat=None), "has no heartbeat"),
        (_without("heartbeat"), "has no heartbeat"),
        (_without("databases"), "Which databases were restored could not be seen"),
        (_with(problem="pg_amcheck: error: index is broken"), "came up damaged: pg_amcheck: error: index is broken"),
        (_with(problem="it did not come up", step="recover"), "PostgreSQL did not come up on it: it did not come up"),
        (
            {"problem": "P00 ERROR: [029]: unable to flush", "step": "restore"},
            "could not be read back: the repository was made with another pass phrase",
        ),
        (_with(log=["P00  ERROR: [025]: WAL is cut"]), "WAL in the repository cannot be read (WAL is cut)"),
        (replace(GOOD, missing=("00000001A", "00000001B")), "WAL file 00000001A and 1 more is missing"),
        (
            _with(databases={"shop": RESTORED["databases"]["shop"]}),
            "Database slipway_host is not in the restored backup",
        ),
        (
            replace(GOOD, live={"shop": {"revisions": {"alembic_version": "0005"}, "rows": {}}}),
            "Database shop is at revision 0004 in the restored backup, and at 0005 on the live server",
        ),
        (
            replace(GOOD, live={"shop": {"revisions": {"other": "1"}, "rows": {}}}),
            "Database shop has no table other in the restored backup",
        ),
        (
            replace(GOOD, live={"shop": {"revisions": {}, "rows": {"orders": 200_000}}}),
            "Table orders of shop has 49000 rows in the restored backup, and about 200000 on the live server",
        ),
    ],
)
def test_what_is_wrong_is_a_sentence(seen: Any, sentence: str) -> None:
    seen = seen if isinstance(seen, Seen) else replace(GOOD, restored=seen)
    found = drill_checks.problems(seen)
    assert len(found) == 1, found
    assert sentence in found[0]


def test_a_table_may_be_written_to_meanwhile() -> None:
    live = {"shop": {"revisions": {}, "rows": {"orders": 70_000, "notes": 900, "not counted": 10**9}}}
    assert drill_checks.problems(replace(GOOD, live=live)) == []


def test_too_little_room_is_said_before_anything_is_restored() -> None:
    drill.check_room(39 * 10**6, 512 * 10**6)
    with pytest.raises(FailedError, match=r"The drill would need 701.3 MB in /var/lib/slipway, and 512.0 MB are left"):
        drill.check_room(500 * 10**6, 512 * 10**6)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (45, "45 s"), (720, "12 min"), (12_000, "3 h 20 min"), (7200, "2 h"), (400_000, "4 days")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert drill_checks.age(seconds) == text
