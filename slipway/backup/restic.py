"""restic: its command lines, what it says in JSON, and what its exit codes mean."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.backup import settings as backups
from slipway.backup.settings import Settings

PROGRAM = "/usr/bin/restic"

NO_REPOSITORY, LOCKED, WRONG_PASSWORD = 10, 11, 12
UNREADABLE = 3  # some files could not be read; a snapshot was made without them

# One processor, and little memory: the apps and PostgreSQL come first.
ENVIRONMENT = {"GOMAXPROCS": "1", "GOGC": "20", "RESTIC_PROGRESS_FPS": "0.01"}


@dataclass(frozen=True)
class Snapshot:
    """One backup of files."""

    name: str
    time: str  # as restic writes it
    paths: tuple[str, ...]
    files: int
    size: int  # bytes


@dataclass(frozen=True)
class File:
    """A file in a snapshot. `changed` is when it was changed, as restic writes it."""

    path: str
    size: int
    changed: str


def command(settings: Settings, *arguments: str) -> list[str]:
    place = ["--repo", str(settings.app_files), "--password-file", str(backups.PASSPHRASE)]
    return [PROGRAM, "--json", "--no-cache", *place, *arguments]


def backup(settings: Settings, paths: Sequence[Path]) -> list[str]:
    """The command that makes a snapshot. What the drill and pgBackRest have is no file of an app."""
    return command(
        settings, "backup", "--exclude-caches", f"--host={settings.stanza}", "--tag=slipway", *map(str, paths)
    )


def forget(settings: Settings) -> list[str]:
    """The command that drops old snapshots: they are kept as long as the full backups of databases are."""
    days = settings.full_days * settings.keep_full
    return command(
        settings, "forget", f"--host={settings.stanza}", "--group-by=host", f"--keep-within={days}d", "--prune"
    )


def messages(output: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that restic has printed, one a line; a list of them counts as its members."""
    for line in output.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict))


def summary(output: str) -> dict[str, Any] | None:
    """The last message of `backup` or `check`; None when there is none, so it did not end."""
    return next((item for item in reversed(list(messages(output))) if item.get("message_type") == "summary"), None)


def snapshots(output: str) -> list[Snapshot]:
    """The snapshots that `snapshots` lists, the oldest first."""
    found = [
        Snapshot(
            str(item.get("short_id") or item["id"])[:8],
            item["time"],
            tuple(item.get("paths") or ()),
            int((item.get("summary") or {}).get("total_files_processed", 0)),
            int((item.get("summary") or {}).get("total_bytes_processed", 0)),
        )
        for item in messages(output)
        if "time" in item and ("short_id" in item or item.get("struct_type") == "snapshot")
    ]
    return sorted(found, key=lambda item: item.time)


def listed(output: str) -> list[File]:
    """The files that `ls` lists."""
    return [
        File(item["path"], int(item.get("size", 0)), str(item.get("mtime", "")))
        for item in messages(output)
        if item.get("type") == "file" and "path" in item
    ]


# What restic says, its exit code for that (of 0.17 and later), and what it means.
_SIGNS = (
    ("wrong password", WRONG_PASSWORD, "was made with another pass phrase"),
    ("no space left on device", -1, "is full"),
    ("disk quota exceeded", -1, "is full"),
    ("already locked", LOCKED, "is in use by another restic"),
    ("unable to open config file", NO_REPOSITORY, "is not there"),
)


def meaning(code: int, said: str) -> str:
    """What an error of restic means, as the end of "The repository of files …"."""
    for sign, its_code, meant in _SIGNS:
        if code == its_code or sign in said:
            return meant
    last = next((str(item["message"]) for item in messages(said) if item.get("message_type") == "exit_error"), "")
    text = last or next(iter(said.strip().splitlines()[-1:]), "")
    return f"could not be used: {text or f'restic ended with the exit code {code}'}"
