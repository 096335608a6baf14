"""The journal of an app: one JSON object a line, for every phase of every deployment. Never rewritten."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# The phase of the line that closes a deployment; its outcome is "succeeded", "failed" or "reverted".
RESULT = "result"


@dataclass(frozen=True)
class Entry:
    """One line. Order is the order in the file: the clock may jump, so `at` is only for reading."""

    deployment: str
    action: str
    phase: str
    outcome: str
    release: str
    tag: str | None
    sha: str
    owner: str
    live: str | None = None  # the release that took traffic when the line was written
    seconds: float = 0.0
    message: str = ""
    at: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def append(path: Path, entry: Entry) -> None:
    """Add one line and make it durable. One write(2), so a crash can tear only the last line."""
    line = json.dumps(asdict(entry), separators=(",", ":")) + "\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a torn line must not swallow this one
            line = "\n" + line
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Entry]:
    """All entries, oldest first; a torn or foreign line is passed over. Empty when there is no journal yet."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [entry for line in lines if (entry := _parse(line)) is not None]


def _parse(line: str) -> Entry | None:
    try:
        return Entry(**json.loads(line))
    except (json.JSONDecodeError, TypeError):
        return None


def deployed(entries: Iterable[Entry]) -> list[Entry]:
    """The closing line of the newest successful deploy of each release, in the order of those deploys.

    A rollback does not reorder: after v1, v2, rollback to v1, the order still is v1, v2.
    """
    newest: dict[str, Entry] = {}
    for entry in entries:
        if entry.phase == RESULT and entry.outcome == "succeeded" and entry.action == "deploy":
            newest.pop(entry.release, None)
            newest[entry.release] = entry
    return list(newest.values())


def previous(entries: Iterable[Entry], live: str) -> Entry | None:
    """The deploy before that of the release `live`: where a rollback goes. None when there is none."""
    order = deployed(entries)
    names = [entry.release for entry in order]
    position = names.index(live) if live in names else len(names)
    return order[position - 1] if position > 0 else None


def find(entries: Iterable[Entry], tag: str | None, sha: str | None) -> Entry | None:
    """The newest successful deploy of a tag, or of a commit given by at least 7 hex digits."""
    for entry in reversed(deployed(entries)):
        if (tag is not None and entry.tag == tag) or (sha is not None and entry.sha.startswith(sha)):
            return entry
    return None


def moved_from(entries: Iterable[Entry], tag: str, sha: str) -> str | None:
    """The commit that `tag` named when it was last deployed, if that is not `sha`."""
    last = find(entries, tag, None)
    return last.sha if last is not None and last.sha != sha else None


def live_since(entries: Iterable[Entry], release: str) -> str | None:
    """When the release that is live now took traffic: the time of the last switch to it."""
    for entry in reversed(list(entries)):
        if entry.phase == "switch" and entry.outcome == "ok" and entry.release == release:
            return entry.at
    return None


def results(entries: Iterable[Entry], count: int) -> list[Entry]:
    """Closing lines of the last `count` deployments, newest first."""
    closing = [entry for entry in entries if entry.phase == RESULT]
    return closing[::-1][:count]
