"""What `slipway status` says of backups."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from slipway.backup import make, records, report
from slipway.backup.cluster import Archive
from slipway.backup.pgbackrest import Backup
from slipway.base.errors import FailedError
from tests.engine.backups import SETTINGS

NOW = 1795809808.0
HOUR = 3600
ARCHIVE = Archive("on", is_ours=True, timeout=60, archived=NOW - 30, failed=0, failed_wal="", waiting=2**24)
BACKUP = Backup("20261127-200324F", "full", int(NOW) - HOUR, int(NOW) - HOUR, 39_095_740, 1, "0", "0", 1, False)


def _record(outcome: str, message: str, age: float) -> dict[str, Any]:
    at = datetime.fromtimestamp(NOW - age, UTC).isoformat()
    return {"outcome": outcome, "message": message, "at": at, "seconds": 4.2}


def _state(**changes: Any) -> dict[str, Any]:
    return {
        "repository": "local",
        "path": "/var/lib/slipway/backups",
        "databases": {"count": 1, "last": asdict(BACKUP), "earliest": BACKUP.ended},
        "archive": {**asdict(ARCHIVE), "problem": ARCHIVE.problem},
        "files": {"at": NOW - HOUR, "what": "files", "name": "ab", "kind": "snapshot", "size": 11_283},
        "last": _record("ok", "all", HOUR),
        "drill": _record("ok", "it was restored.", HOUR),
        "timers": {},
        "free": 74 * 10**9,
        **changes,
    }


def _text(**changes: Any) -> str:
    return "\n".join(f"{label}: {text}" for label, text in report.rows(_state(**changes), SETTINGS, NOW))


def test_a_host_that_is_backed_up() -> None:
    assert _text().splitlines() == [
        "backup: databases: full 60 min ago, 39.1 MB; every moment since 2026-11-27 19:03 UTC can be restored",
        "backup: files: 60 min ago, 11 kB",
        "wal: archived 30 s ago",
        "drill: 60 min ago, in 4.2 s: it was restored.",
        "kept: in /var/lib/slipway/backups (74.0 GB free), on this host alone: what ends the host ends its backups",
    ]


def _archive(**changes: Any) -> dict[str, Any]:
    found = replace(ARCHIVE, **changes)
    return {**asdict(found), "problem": found.problem}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"databases": {"error": "is full"}}, "backup: databases: the repository is full"),
        ({"databases": {"count": 0, "last": None, "earliest": None}}, "backup: databases: none yet: slipway backup"),
        (
            {"databases": {"count": 1, "last": asdict(replace(BACKUP, ended=int(NOW) - 30 * HOUR)), "earliest": 0}},
            "THIS IS TOO OLD: slipway backup",
        ),
        (
            {"databases": {"count": 1, "last": asdict(replace(BACKUP, ended=int(NOW) + 86400)), "earliest": 0}},
            "2026-11-28 20:03 UTC, which is ahead of the clock",
        ),
        ({"files": None}, "backup: files: none yet: slipway backup"),
        ({"files": {"error": "newer"}}, "backup: files: newer"),
        ({"last": _record("failed", "It is full.", 9)}, "backup: the last one failed: It is full."),
        ({"archive": {"error": "PostgreSQL does not answer"}}, "wal: NOT ARCHIVED: PostgreSQL does not answer"),
        ({"archive": _archive(mode="off")}, "NOT ARCHIVED: PostgreSQL does not archive its WAL (archive_mode is off)"),
        ({"archive": _archive(is_ours=False)}, "an archive_command that is not of Slipway"),
        (
            {"archive": _archive(failed=NOW - 1, failed_wal="00000001")},
            "wal: NOT ARCHIVED: 00000001 was not taken into the repository; 16.8 MB of WAL wait on the server",
        ),
        ({"archive": _archive(waiting=2**31)}, "wal: 2.1 GB of WAL wait on the server"),
        ({"archive": _archive(archived=NOW - 600)}, "was archived 10 min ago: is the heartbeat written?"),
        (
            {"timers": {"slipway-backup.timer": "systemctl enable --now slipway-backup.timer"}},
            "timer: slipway-backup.timer does not run: systemctl enable --now slipway-backup.timer",
        ),
        ({"drill": None}, "drill: none yet: slipway drill shows whether a backup can be restored"),
        ({"drill": _record("failed", "It is damaged.", 60)}, "drill: FAILED 60 s ago: It is damaged."),
        ({"drill": _record("ok", "it was restored.", 9 * 86400)}, "it was restored.; repeat it: slipway drill"),
    ],
)
def test_what_is_wrong_is_a_row(changes: dict[str, Any], line: str) -> None:
    assert line in _text(**changes)


def test_sizes_are_for_people() -> None:
    assert [make.amount(size) for size in (0, 999, 11_283, 39_095_740, 74 * 10**9)] == [
        *("0 bytes", "999 bytes", "11 kB", "39.1 MB", "74.0 GB"),
    ]


def test_an_empty_repository_that_was_not_empty_is_no_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    part = {"what": "databases", "problem": ""}
    made = records.record("backup", records.OK, "m", 1, path=str(SETTINGS.path), parts=[part])
    monkeypatch.setattr(records, "read", lambda _: [made])
    with pytest.raises(FailedError, match=r"is empty, and on .* there was a backup in it. Mount its disk"):
        make._check_not_lost(SETTINGS, "databases", SETTINGS.databases)
    make._check_not_lost(SETTINGS, "files", SETTINGS.app_files)
    make._check_not_lost(replace(SETTINGS, path=SETTINGS.path / "other"), "databases", SETTINGS.databases)
