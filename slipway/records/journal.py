"""The journal of an app: one JSON object per line, for every phase of every deployment. It is only appended to."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.base import files
from slipway.base.errors import RefusedError
from slipway.records import formats, phases

FORMAT = 2  # format 1 had no number in the line, and its name for the phase `start` was `warm`

_LIMIT = 2**30  # bytes: ten thousand deployments have less than a tenth of it

_ABBREVIATED = re.compile(r"[0-9a-f]{7,64}")

# The phase of the line that closes a deployment; its outcome is "succeeded", "failed" or "reverted".
RESULT = "result"
# The phase of a line about a hook. A hook is not part of the deployment, so receipts do not count its seconds.
HOOK = "hook"


@dataclass(frozen=True)
class Entry:
    """One line. Lines are ordered by their place in the file. `at` is only for people, as the clock may jump."""

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
    unknown: dict[str, Any] = field(default_factory=dict)  # fields of another version of the engine


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def append(path: Path, entry: Entry) -> None:
    """Add one line and make it durable. It is one write(2), so a crash can only leave the last line incomplete."""
    line = json.dumps(formats.stamped(entry, FORMAT), separators=(",", ":")) + "\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # an incomplete line: this one needs a line of its own
            line = "\n" + line
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Entry]:
    """All entries, oldest first. Lines that are not entries are skipped. Empty when there is no journal yet.

    RefusedError when a newer version of the engine wrote a line.
    """
    try:
        lines = files.read_text(path, limit=_LIMIT, errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [entry for line in lines if (entry := _parse(line, str(path))) is not None]


def _parse(line: str, source: str) -> Entry | None:
    try:
        value = files.decode_json(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    formats.check(value, FORMAT, source)
    arguments, unknown = formats.split(value, Entry)
    try:
        entry = Entry(**arguments, unknown=unknown)
    except TypeError:
        return None
    return replace(entry, phase=phases.RENAMED_PHASES.get(entry.phase, entry.phase))


def deployed(entries: Iterable[Entry]) -> list[Entry]:
    """The result line of the newest successful deploy of each release, in the order of those deploys.

    A rollback does not change the order: after v1, v2, rollback to v1, the order is still v1, v2.
    """
    newest: dict[str, Entry] = {}
    for entry in _deploys(entries):
        newest.pop(entry.release, None)
        newest[entry.release] = entry
    return list(newest.values())


def _deploys(entries: Iterable[Entry]) -> list[Entry]:
    return [e for e in entries if e.phase == RESULT and e.outcome == "succeeded" and e.action == "deploy"]


def previous(entries: Iterable[Entry], live: str) -> Entry | None:
    """The release that was live before `live` was deployed: the target of a rollback. None if there was none.

    This is not always the deploy before it: after v1, v2, rollback to v1, v3, the release before v3 is v1.
    """
    deploys = _deploys(entries)
    for entry in reversed(deploys):
        before = entry.detail.get("from")
        if entry.release == live and before not in (None, live):
            return next((item for item in reversed(deploys) if item.release == before), None)
    return None


def find(entries: Iterable[Entry], version: str) -> Entry | None:
    """The newest successful deploy of a tag, or else of a commit given by at least 7 hex digits.

    RefusedError when several commits begin with these digits.
    """
    known = deployed(entries)
    for entry in reversed(known):
        if entry.tag == version:
            return entry
    if not _ABBREVIATED.fullmatch(version):
        return None
    found = [entry for entry in known if entry.sha.startswith(version)]
    if len({entry.sha for entry in found}) > 1:
        raise RefusedError(f"Several commits begin with {version}; pass more digits.")
    return found[-1] if found else None


def moved_from(entries: Iterable[Entry], tag: str, sha: str) -> str | None:
    """The commit that `tag` named when it was last deployed; None if that is `sha`, or it was never deployed."""
    last = next((entry for entry in reversed(deployed(entries)) if entry.tag == tag), None)
    return last.sha if last is not None and last.sha != sha else None


def migrated_heads(entries: Iterable[Entry]) -> set[str]:
    """Every alembic head that the database has reached or passed, as the deployments of this host have recorded."""
    reached: set[str] = set()
    for entry in entries:
        if entry.phase == "migrate" and entry.outcome in ("ok", "skipped"):
            reached.update(entry.detail.get("heads", []))
    return reached


def live_since(entries: Iterable[Entry], release: str) -> str | None:
    """Since when `release`, which is live now, takes traffic: the time of the last switch to it."""
    for entry in reversed(list(entries)):
        if entry.phase == "switch" and entry.outcome == "ok" and entry.release == release:
            return entry.at
    return None


def results(entries: Iterable[Entry], count: int) -> list[Entry]:
    """The result lines of the last `count` deployments, newest first."""
    closing = [entry for entry in entries if entry.phase == RESULT]
    return closing[::-1][:count]
