"""The drill: the latest backup is restored beside the live server, looked at, and taken away again.

What could not be verified counts as failed. What a killed drill has left is taken away by the next one.
"""

from __future__ import annotations

import json
import pkgutil
import pwd
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.backup import (
    cluster,
    drill_checks,
    drill_files,
    guard,
    heartbeat,
    make,
    pgbackrest,
    records,
    units,
)
from slipway.backup import settings as backups
from slipway.backup.settings import Settings
from slipway.base import confined, process
from slipway.base.errors import FailedError, SlipwayError

_OVERHEAD = 192 * 2**20  # bytes: WAL of the recovery, and what the scratch server writes itself
_PATIENCE = 6 * 3600.0  # seconds for the recovery of a large database


@dataclass
class Report:
    """What a drill has found: `problems` are sentences, and one is enough for it to have failed."""

    said: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


def drill(settings: Settings, *, patience: float = 0, note: Callable[[str], None] = lambda _: None) -> records.Record:
    """Restore on trial; the record of it. FailedError, after the record, where something is wrong or was not seen."""
    with guard.held("drill", patience):
        started = time.monotonic()
        report = Report()
        try:
            sweep()
            if settings.postgresql:
                note("Restoring the latest backup of the databases beside the live server.")
                _tried(report, lambda: _databases(settings, report))
            if settings.files:
                note("Reading files back out of the repository.")
                _tried(report, lambda: _files(settings, report))
        finally:
            sweep()
        outcome = records.FAILED if report.problems else records.OK
        message = " ".join(report.problems or report.said)
        record = records.record("drill", outcome, message, time.monotonic() - started, **report.figures)
        records.append(backups.RECORDS, record)
        make.say(record)
        if report.problems:
            raise FailedError(f"The drill has failed: {message}", "\n".join(report.details))
        return record


def sweep() -> None:
    """End and remove what a drill has left, or a killed one."""
    confined.end(units.drill())
    if backups.SCRATCH.is_symlink():
        backups.SCRATCH.unlink()
    elif backups.SCRATCH.is_mount():  # somebody has given it a disk of its own
        for path in backups.SCRATCH.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    elif backups.SCRATCH.exists():
        shutil.rmtree(backups.SCRATCH)


def _tried(report: Report, run: Callable[[], None]) -> None:
    try:
        run()
    except SlipwayError as error:
        report.problems.append(str(error))
        report.details += [error.detail] if error.detail else []


# Databases


def _databases(settings: Settings, report: Report) -> None:
    info = make.info_of(settings)
    if info.problem:
        raise FailedError(f"The repository {settings.databases} {info.problem}.")
    last = info.last
    if last is None:
        raise FailedError(f"The repository {settings.databases} has no backup yet: run `slipway backup`.")
    check_room(last.size, make.free(backups.SCRATCH))
    live = _live(settings)
    missing = _missing(settings, info, last)
    found = _restored(settings)
    now = time.time()
    seen = drill_checks.Seen(found, live, now, settings.heartbeat_minutes * 60, missing)
    report.problems += drill_checks.problems(seen)
    if report.problems:
        report.details += [found.get("problem", ""), "\n".join(found.get("log", [])[-20:])]
    rows = sum(sum(item["rows"].values()) for item in found.get("databases", {}).values())
    age = now - found["heartbeat"] if found.get("heartbeat") else None
    report.figures |= {
        "label": last.label,
        "size": last.size,
        "heartbeat_age": None if age is None else round(age),
        "rows": rows,
        "seconds_of": found.get("seconds", {}),
    }
    seconds = sum(found.get("seconds", {}).values())
    report.said.append(
        f"{last.kind} {last.label} was restored in {seconds:.1f} s ({make.amount(last.size)}): "
        f"{len(found.get('databases', {}))} databases, {rows} rows counted, all pages and indexes checked, "
        f"the last heartbeat is {drill_checks.age(age or 0)} old."
    )


def check_room(size: int, left: int) -> None:
    """FailedError when a restored database of so many bytes would not fit."""
    if left < size + _OVERHEAD:
        raise FailedError(
            f"The drill would need {make.amount(size + _OVERHEAD)} in {backups.SCRATCH.parent}, and "
            f"{make.amount(left)} are left. Nothing was restored: make room there."
        )


def _live(settings: Settings) -> dict[str, Any]:
    """What the live server has now, as drill_inside.py says it of the restored one; rows are estimated."""
    return {
        name: {"revisions": cluster.revisions(settings, name), "rows": cluster.tables(settings, name)}
        for name in cluster.databases(settings)
    }


def _missing(settings: Settings, info: pgbackrest.Info, last: pgbackrest.Backup) -> list[str]:
    """The WAL files that are missing behind the backup; a recovery would end before them, without an error."""
    if not info.archive or not last.first_wal:
        raise FailedError(f"pgbackrest does not say which WAL belongs to {last.label}.")
    listed = units.ask_pgbackrest(
        settings, "repo-ls", "--recurse", "--output=json", f"archive/{settings.stanza}/{info.archive}"
    )
    try:
        return pgbackrest.gaps(pgbackrest.segments(listed), last.first_wal)
    except ValueError:
        raise FailedError(f"The WAL in {settings.databases} cannot be listed.", listed[:500]) from None


def _restored(settings: Settings) -> dict[str, Any]:
    """Restore in the sandbox; what was found there."""
    account = pwd.getpwnam(units.DRILL_USER)
    backups.SCRATCH.mkdir(mode=0o700, parents=True, exist_ok=True)
    backups.SCRATCH.chmod(0o700)
    shutil.chown(backups.SCRATCH, account.pw_uid, account.pw_gid)
    request = {
        "place": str(backups.SCRATCH),
        "programs": str(settings.programs),
        "pgbackrest": pgbackrest.command(settings),
        "target": ["--type=default"],
        "patience": _PATIENCE,
        "databases": cluster.DATABASES,
        "revisions": cluster.REVISIONS,
        "tables": cluster.TABLES,
        "heartbeat_database": heartbeat.DATABASE,
        "heartbeat": heartbeat.READ,
    }
    return inside(request, units.LONGEST)


def inside(request: dict[str, Any], timeout: float) -> dict[str, Any]:
    """The answer of drill_inside.py, in its unit."""
    program = (pkgutil.get_data(__package__, "drill_inside.py") or b"").decode()
    done = confined.run(
        units.drill(),
        [sys.executable, "-ISXutf8", "-c", program],
        # Not as an option, which would come into restore_command, and there it is wrong.
        environment={"PGBACKREST_SPOOL_PATH": f"{request['place']}/spool"},
        directory=Path(request["place"]),
        given=json.dumps(request),
        timeout=timeout,
    )
    try:
        answer = json.loads(done.answer or b"")
    except ValueError:
        how = f"was killed by signal {done.signal}" if done.signal else f"ended with the exit code {done.returncode}"
        raise FailedError(f"What restores the backup {how}.", process.tail(done.printed)) from None
    if not isinstance(answer, dict):
        raise FailedError("What restores the backup gave no answer.", process.tail(done.printed))
    return answer


# Files


def _files(settings: Settings, report: Report) -> None:
    found = drill_files.look(settings)
    report.problems += found.problems
    report.figures |= {"snapshot": found.snapshot, "files": found.files, "files_read": found.read}
    report.said.append(
        f"Of the {found.files} files in snapshot {found.snapshot}, {found.read} were read back, and the repository is "
        "whole."
    )


def latest(found: Sequence[records.Record]) -> records.Record | None:
    """The newest drill."""
    return records.last(found, "drill")
