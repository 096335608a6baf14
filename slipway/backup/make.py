"""Making a backup: PostgreSQL by pgBackRest, files of apps by restic, and a line in the journal of both."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.backup import cluster, copies, guard, heartbeat, pgbackrest, records, restic, units
from slipway.backup import settings as backups
from slipway.backup.settings import Settings
from slipway.base import confined, process
from slipway.base import settings as config
from slipway.base.errors import FailedError, SlipwayError

MARGIN = 128 * 2**20  # bytes that a repository leaves to all else on its disk
_TIGHT = 16 * 2**20  # bytes below which a disk counts as full, whatever the message was

# What the host has made itself and no inventory has: without it, a host that is made anew is another one.
_OF_THE_HOST = (Path("/etc/slipway"), Path("/etc/ssl/slipway"), Path("/var/lib/slipway/acme"))


@dataclass(frozen=True)
class Made:
    """What a backup has brought. Sizes in bytes; `stored` is what it added to the repository."""

    what: str  # databases or files
    name: str
    kind: str
    size: int
    stored: int
    seconds: float
    problem: str = ""  # why there is none; a sentence
    detail: str = ""

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        return (
            f"{self.what}: {self.kind} {self.name}, {amount(self.stored)} stored of {amount(self.size)}, in "
            f"{self.seconds:.1f} s"
        )


def amount(size: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit != "MB" else f"{size:.1f} MB"
        size /= 1000
    return f"{size:.1f} GB"


def make(
    settings: Settings, *, full: bool = False, patience: float = 0, note: Callable[[str], None] = lambda _: None
) -> records.Record:
    """Make a backup of all that the host has to lose; its record. FailedError, after the record, where a part failed.

    What failed does not keep the other part from being made. `patience` is how long another backup is waited for.
    """
    with guard.held("backup", patience):
        started = time.monotonic()
        made = []
        if settings.postgresql:
            note("Backing up the databases.")
            made.append(_tried("databases", settings.databases, lambda: _databases(settings, full=full)))
        if settings.files:
            note("Backing up the files of apps.")
            made.append(_tried("files", settings.app_files, lambda: _files(settings, full=full)))
        failed = [item for item in made if item.problem]
        record = records.record(
            "backup",
            records.FAILED if failed else records.OK,
            "; ".join(map(str, failed or made)) if made else "nothing",
            time.monotonic() - started,
            path=str(settings.path),
            parts=[
                {"what": item.what, "name": item.name, "kind": item.kind, "size": item.size, "stored": item.stored,
                 "seconds": round(item.seconds, 1), "problem": item.problem}
                for item in made
            ],
        )  # fmt: skip
        records.append(backups.RECORDS, record)
        say(record)
        if failed:
            details = "\n".join(item.detail for item in failed if item.detail)
            problems = " ".join(item.problem for item in failed)
            raise FailedError(f"The backup has failed: {problems}", details)
        return record


def _tried(what: str, place: Path, run: Callable[[], Made]) -> Made:
    """What a part has made, or why not: as full counts a disk that has nothing left, whatever the program said."""
    started = time.monotonic()
    try:
        return run()
    except SlipwayError as error:
        sentence = str(error)
        if free(place) < _TIGHT and "full" not in sentence:
            sentence = f"{sentence} The disk of {place} is full."
        return Made(what, "", "", 0, 0, time.monotonic() - started, sentence, error.detail)


def free(place: Path) -> int:
    """The bytes that are free on the disk of a path, or of the nearest directory above it that is there."""
    there = next(path for path in (place, *place.parents) if path.exists())
    return shutil.disk_usage(there).free


def _check_not_lost(settings: Settings, what: str, place: Path) -> None:
    """FailedError for an empty repository that was not empty before: its disk may be gone, and another one fills up."""
    for record in reversed(records.read(backups.RECORDS)):
        parts = record.detail.get("parts", []) if record.detail.get("path") == str(settings.path) else []
        if any(part["what"] == what and not part["problem"] for part in parts):
            raise FailedError(
                f"The repository {place} is empty, and on {when(record.time)} there was a backup in it. Mount its "
                "disk; or, to begin anew, run `slipway backup --full`."
            )


def _check_room(settings: Settings, place: Path, wanted: int) -> None:
    left = free(place)
    if left < wanted + MARGIN:
        raise FailedError(
            f"The repository in {place} has {amount(left)} left, and the next backup may take {amount(wanted)}, with "
            f"{amount(MARGIN)} left for all else: make room, set backups.path to a larger disk, or lower "
            f"backups.keep_full ({settings.keep_full})."
        )


# PostgreSQL


def _databases(settings: Settings, *, full: bool) -> Made:
    info = info_of(settings)
    if info.problem and not info.is_new:
        raise FailedError(f"The repository {settings.databases} {info.problem}.{_advice(info.problem)}")
    if not info.backups and not full:
        _check_not_lost(settings, "databases", settings.databases)
    heartbeat.beat(settings)
    kind = pgbackrest.FULL if full else pgbackrest.due(info, time.time(), settings.full_days)
    _check_room(settings, settings.databases, _expected(settings, info, kind))
    if not info.database:
        prepare(settings)
    started = time.monotonic()
    done = units.run_pgbackrest(settings, f"--type={kind}", "backup", timeout=units.LONGEST)
    if done.returncode in pgbackrest.UPGRADED:
        prepare(settings)
        done = units.run_pgbackrest(settings, "--type=full", "backup", timeout=units.LONGEST)
    if done.returncode != 0:
        raise refused(settings, done)
    last = info_of(settings).last
    if last is None or last.ended < time.time() - (time.monotonic() - started) - 60:
        raise FailedError(
            f"pgbackrest ended without an error, but {settings.databases} does not have the backup that it made.",
            process.tail(done.printed),
        )
    damage = f"Pages of the database with wrong checksums were found in backup {last.label}." if last.is_damaged else ""
    made = Made("databases", last.label, last.kind, last.size, last.stored, time.monotonic() - started)
    return replace(made, problem=damage, detail=process.tail(done.printed)) if damage else made


def _expected(settings: Settings, info: pgbackrest.Info, kind: str) -> int:
    """The bytes that a backup may take: as the last of its kind and a half more, or what the databases have."""
    same = [item.stored for item in info.backups if item.kind == kind]
    return same[-1] * 3 // 2 if same else cluster.size(settings) // 2


def info_of(settings: Settings) -> pgbackrest.Info:
    """What the repository has, read out of it."""
    return pgbackrest.parse(units.ask_pgbackrest(settings, "info", "--output=json"), settings.stanza)


def prepare(settings: Settings) -> None:
    """Make the repository know the cluster: the first time, and after an upgrade of PostgreSQL."""
    done = units.run_pgbackrest(settings, "stanza-create")
    if done.returncode in pgbackrest.UPGRADED:
        _check_upgraded(settings)
        done = units.run_pgbackrest(settings, "stanza-upgrade")
    if done.returncode != 0:
        raise refused(settings, done)


def _check_upgraded(settings: Settings) -> None:
    """FailedError for a cluster that is another one, as on a host that was made anew, and not the former one upgraded.

    Its backups would take the place of those that the repository was kept for.
    """
    kept = info_of(settings)
    if kept.version in ("", settings.version):
        raise FailedError(
            f"The repository {settings.databases} has the backups of another PostgreSQL {kept.version} than the one of "
            "this host. Restore from them, as docs/backups.md says; or, to begin anew, move the repository away."
        )


def check(settings: Settings) -> None:
    """Have PostgreSQL hand over its WAL now, and wait until the repository has it; FailedError when it does not."""
    done = units.run_pgbackrest(settings, "check")
    if done.returncode != 0:
        raise refused(settings, done)


def refused(settings: Settings, done: confined.Result) -> FailedError:
    """What pgbackrest's failure means."""
    if done.signal:
        return FailedError("pgbackrest was killed. The next backup goes on from there.", process.tail(done.printed))
    meant = pgbackrest.meaning(done.returncode, done.printed)
    return FailedError(f"The repository {settings.databases} {meant}.{_advice(meant)}", process.tail(done.printed))


def _advice(meant: str) -> str:
    if "another pass phrase" in meant:
        return (
            " Set backups.passphrase to the one that it was made with and run site.yml, or move the repository away to "
            "begin anew."
        )
    if "is full" in meant:
        return " Make room, set backups.path to a larger disk, or lower backups.keep_full, and run site.yml."
    if "has lost" in meant or "has nothing" in meant:
        return " Run `slipway backup --full` when its disk is there again."
    return ""


# Files


def paths(settings: Iterable[config.Settings]) -> list[Path]:
    """What of the host is backed up as files: what it has made itself, and what its apps write."""
    found = [path for path in _OF_THE_HOST if path.exists()]
    for app in settings:
        own = [app.data_directory, app.data_directory.with_name(f"{app.app}.redis"), *map(Path, app.writable_paths)]
        own += [app.journal, app.records]
        found += [path for path in own if path.exists()]
    return found


def _files(settings: Settings, *, full: bool) -> Made:
    started = time.monotonic()
    if not (settings.app_files / "config").exists():
        if not full:
            _check_not_lost(settings, "files", settings.app_files)
        _run_restic(settings, restic.command(settings, "init"))
    # What a killed backup has left: nobody else is at work here, as this process holds the lock.
    if _count(settings.app_files / "locks"):
        _run_restic(settings, restic.command(settings, "unlock", "--remove-all"))
    _check_room(settings, settings.app_files, 0)
    apps = [config.load(name) for name in config.installed()]
    with copies.made(apps) as copied:
        command = restic.backup(settings, [*paths(apps), copies.PLACE])
        done = _run_restic(settings, command, timeout=units.LONGEST, bears=restic.UNREADABLE)
    summary = restic.summary(done.printed + (done.answer or b"").decode(errors="replace"))
    if summary is None:
        raise FailedError("restic ended without saying what it has made.", process.tail(done.printed))
    unread = ["Some files of apps could not be read, and are in no backup."] if done.returncode else []
    problem = " ".join([*unread, *copied.problems])
    # To drop old ones takes longer than to make a new one of what has not changed, so it is done each week.
    if _count(settings.app_files / "snapshots") > settings.full_days * (settings.keep_full + 1):
        _run_restic(settings, restic.forget(settings), timeout=units.LONGEST)
    return Made(
        "files",
        str(summary.get("snapshot_id", ""))[:8],
        "snapshot",
        int(summary.get("total_bytes_processed", 0)),
        int(summary.get("data_added_packed", summary.get("data_added", 0))),
        time.monotonic() - started,
        problem,
        process.tail(done.printed) if problem else "",
    )


def _count(directory: Path) -> int:
    return sum(1 for _ in directory.iterdir()) if directory.is_dir() else 0


def _run_restic(
    settings: Settings, command: list[str], *, timeout: float = units.QUICK, bears: int = 0
) -> confined.Result:
    done = units.run_restic(settings, command, timeout=timeout)
    if done.returncode not in (0, bears):
        meant = "was interrupted: restic was killed" if done.signal else restic.meaning(done.returncode, done.printed)
        raise FailedError(
            f"The repository of files {settings.app_files} {meant}.{_advice(meant)}", process.tail(done.printed)
        )
    return done


def when(seconds: float) -> str:
    """A time for people, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def say(record: records.Record) -> None:
    """Have the record in the journal of systemd, whoever has made it."""
    priority = "info" if record.outcome == records.OK else "err"
    process.run(
        ["systemd-cat", f"--identifier=slipway-{record.kind}", f"--priority={priority}"],
        given=f"{record.outcome} in {record.seconds:.1f} s: {record.message}\n",
    )


def as_json(record: records.Record) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(record.detail))
    return {"at": record.at, "seconds": record.seconds, **found}
