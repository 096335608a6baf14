"""The journal of backups and drills: one JSON object per line, which is only appended to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from slipway.base import files
from slipway.base.errors import RefusedError
from slipway.records import formats

FORMAT = 1
KEPT = 2000  # lines; of older ones the file is rid when it has twice as many

Kind = Literal["backup", "drill"]
OK, FAILED = "ok", "failed"


@dataclass(frozen=True)
class Record:
    """One backup or drill. `at` is when it ended; sizes and seconds are in `detail` by their names."""

    kind: Kind
    outcome: str  # ok or failed: what could not be verified has failed
    message: str
    at: str
    seconds: float
    detail: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, Any] = field(default_factory=dict)  # fields of another version of the engine

    @property
    def time(self) -> float:
        """When it ended, in seconds since 1970."""
        return datetime.fromisoformat(self.at).timestamp()


def record(kind: Kind, outcome: str, message: str, seconds: float, **detail: Any) -> Record:
    """A record of now."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Record(kind, outcome, message, at, round(seconds, 1), detail)


def append(path: Path, made: Record) -> None:
    """Add one line and make it durable. A crash can only leave the last line incomplete."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    kept = read(path)
    if len(kept) >= 2 * KEPT:
        files.write_atomically(path, "".join(map(_line, kept[-KEPT:])))
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        cut = size and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (("\n" if cut else "") + _line(made)).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _line(made: Record) -> str:
    return json.dumps(formats.stamped(made, FORMAT), separators=(",", ":")) + "\n"


def read(path: Path) -> list[Record]:
    """All records, the oldest first. Lines that are none are left out; RefusedError for those of a newer engine."""
    try:
        lines = files.read_text(path, errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [found for line in lines if (found := _parse(line, str(path))) is not None]


def _parse(line: str, source: str) -> Record | None:
    try:
        value = files.decode_json(line)
        if not isinstance(value, dict):
            return None
        formats.check(value, FORMAT, source)
        arguments, unknown = formats.split(value, Record)
        found = Record(**arguments, unknown=unknown)
        datetime.fromisoformat(found.at)
    except RefusedError:
        raise
    except (ValueError, TypeError):
        return None
    return found


def last(found: Iterable[Record], kind: Kind, outcome: str = "") -> Record | None:
    """The newest record of a kind, perhaps of one outcome only."""
    wanted = [item for item in found if item.kind == kind and outcome in ("", item.outcome)]
    return wanted[-1] if wanted else None
