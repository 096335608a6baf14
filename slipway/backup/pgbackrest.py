"""pgBackRest: its command lines, what `info` and `repo-ls` say, and what its errors mean."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway.backup import settings as backups
from slipway.backup.settings import Settings

PROGRAM = "/usr/bin/pgbackrest"
USER = "postgres"

FULL, DIFFERENTIAL = "full", "diff"
UPGRADED = (28, 51)  # exit codes where the repository is of the cluster before an upgrade of PostgreSQL

_NOTHING = "has nothing of this host yet"
_MORNING = 12 * 3600  # seconds by which a full backup may come early, so that a spread timer does not skip a week
_SEGMENT = re.compile(r"(?P<name>[0-9A-F]{24})-[0-9a-f]{40}(\.\w+)?")


@dataclass(frozen=True)
class Backup:
    """One backup in the repository. Sizes in bytes, times in seconds since 1970."""

    label: str
    kind: str  # full, diff or incr
    started: int
    ended: int
    size: int  # of the database
    stored: int  # what this backup added to the repository
    first_wal: str
    last_wal: str
    database: int  # the number of the cluster, which an upgrade of PostgreSQL changes
    is_damaged: bool  # pages with wrong checksums were found while it was made


@dataclass(frozen=True)
class Info:
    """What is in the repository. `problem` says why nothing can be read; "" if it can."""

    backups: tuple[Backup, ...] = ()
    problem: str = ""
    database: int = 0  # the number of the cluster that is backed up now
    version: str = ""  # of PostgreSQL, which that cluster has
    archive: str = ""  # the directory of its WAL, such as 17-1
    last_wal: str = ""

    @property
    def is_new(self) -> bool:
        """Whether there is nothing of this host yet, so that a first backup may begin."""
        return self.problem in ("", _NOTHING)

    @property
    def last(self) -> Backup | None:
        return max((item for item in self.backups), key=lambda item: item.ended, default=None)

    @property
    def oldest(self) -> Backup | None:
        """The backup that the earliest moment follows to which can be restored."""
        return min((item for item in self.backups), key=lambda item: item.ended, default=None)


def command(settings: Settings, *arguments: str) -> list[str]:
    return [PROGRAM, f"--config-path={backups.PGBACKREST}", f"--stanza={settings.stanza}", *arguments]


def parse(output: str, stanza: str) -> Info:
    """Read `info --output=json`."""
    try:
        found = json.loads(output)
        stanzas: list[Mapping[str, Any]] = [item for item in found if item["name"] == stanza]
        if not stanzas:
            return Info(problem=_NOTHING)
        return _info(stanzas[0])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        return Info(problem=f"cannot be looked into: pgbackrest gave no proper answer ({type(error).__name__})")


def _info(stanza: Mapping[str, Any]) -> Info:
    problems = [repository["status"] for repository in stanza["repo"] if repository["status"]["code"] not in (0, 2)]
    versions = {item["id"]: str(item["version"]) for item in stanza["db"]}
    archives = {item["database"]["id"]: item for item in stanza["archive"]}
    current = max(versions, default=0)
    return Info(
        tuple(_backup(item) for item in stanza["backup"]),
        meaning(0, problems[0]["message"]) if problems else "",
        current,
        versions.get(current, ""),
        archives[current]["id"] if current in archives else "",
        (archives[current]["max"] or "") if current in archives else "",
    )


def _backup(item: Mapping[str, Any]) -> Backup:
    return Backup(
        item["label"],
        item["type"],
        item["timestamp"]["start"],
        item["timestamp"]["stop"],
        item["info"]["size"],
        item["info"]["repository"]["delta"],
        (item.get("archive") or {}).get("start") or "",
        (item.get("archive") or {}).get("stop") or "",
        item["database"]["id"],
        bool(item.get("error")),
    )


def due(info: Info, now: float, full_days: int) -> str:
    """Which kind of backup is due: a full one where the last is too old, or is of a cluster before an upgrade."""
    full = [item for item in info.backups if item.kind == FULL and item.database == info.database]
    newest = max((item.ended for item in full), default=0)
    return DIFFERENTIAL if newest and 0 <= now - newest < full_days * 86400 - _MORNING else FULL


def segments(output: str) -> list[str]:
    """The WAL files in the repository, from `repo-ls --recurse --output=json` of its archive, in their order."""
    names = (name.rpartition("/")[2] for name in json.loads(output))
    return sorted({match["name"] for name in names if (match := _SEGMENT.fullmatch(name))})


def gaps(present: Sequence[str], first: str, segments_per_file: int = 256) -> list[str]:
    """The WAL files that are missing between `first` and the last one of the same timeline that is present.

    `segments_per_file` is how many there are in 4 GB: 256 with segments of 16 MB.
    """
    timeline = first[:8]
    numbers = {_number(name, segments_per_file) for name in present if name[:8] == timeline and name >= first}
    wanted = range(_number(first, segments_per_file), max(numbers, default=-1) + 1)
    return [_name(timeline, number, segments_per_file) for number in wanted if number not in numbers]


def _number(name: str, per_file: int) -> int:
    return int(name[8:16], 16) * per_file + int(name[16:24], 16)


def _name(timeline: str, number: int, per_file: int) -> str:
    return f"{timeline}{number // per_file:08X}{number % per_file:08X}"


_ERROR = re.compile(r"ERROR: \[(\d+)\]: ")

# What pgBackRest says, and what that means, as the end of "The repository …" or a sentence of its own.
_SIGNS = (
    ("No space left on device", "is full"),
    ("Disk quota exceeded", "is full"),
    ("unable to acquire lock", "is in use by another pgbackrest"),
    ("unable to flush", "was made with another pass phrase"),
    ("key/value found outside of section", "was made with another pass phrase"),
    ("is or was the repo encrypted", "was made with another pass phrase"),
    ("unable to find primary cluster", "cannot be filled, as PostgreSQL does not answer"),
    ("unable to connect to 'dbname=", "cannot be filled, as PostgreSQL does not answer"),
    ("missing stanza path", _NOTHING),
    ("missing stanza data", _NOTHING),
    ("has a stanza-create been performed", "has lost what it is described by (backup.info or archive.info)"),
    ("was not archived before the", "did not get the WAL of this backup in time"),
    ("Read-only file system", "is on a file system that is read-only"),
    ("Permission denied", "cannot be read or written, as the owner or mode of its files was changed"),
    ("Connection refused", "does not answer"),
    ("timeout", "does not answer in time"),
)


def meaning(code: int, said: str) -> str:
    """What an error of pgBackRest means, as the end of "The repository …"."""
    for sign, meant in _SIGNS:
        if sign in said:
            return meant
    first = next((line for line in said.splitlines() if "ERROR" in line), said.strip().splitlines()[-1:] or [""])
    text = _ERROR.split(first)[-1] if isinstance(first, str) else first[0]
    return f"could not be used: {text.strip() or f'pgbackrest ended with the exit code {code}'}"


def errors(log: Iterable[str]) -> list[str]:
    """What pgBackRest has complained about in a log of PostgreSQL: the text of each error, once."""
    found = [_ERROR.split(line)[-1].strip() for line in log if _ERROR.search(line)]
    return list(dict.fromkeys(found))
