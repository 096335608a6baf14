"""Whether what a drill has restored is what the host would lose: pure decisions over what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slipway.backup import heartbeat, pgbackrest

_FEW = 1000  # rows by which a table may differ, whatever its size
_SHARE = 0.5  # of a table's rows, by which it may differ: it is written to meanwhile, and the statistics lag
_FUTURE = 120.0  # seconds by which the heartbeat may be newer than the clock

_STEPS = {
    "restore": "could not be read back",
    "recover": "was read back, but PostgreSQL did not come up on it",
    "look": "came up, but could not be looked at",
    "amcheck": "came up damaged",
}


@dataclass(frozen=True)
class Seen:
    """What was found in the restored cluster (see drill_inside.py) and in the live one, and when."""

    restored: Mapping[str, Any]
    live: Mapping[str, Mapping[str, Any]]
    now: float
    heartbeat_seconds: float
    missing: Sequence[str] = field(default_factory=tuple)  # WAL that the repository does not have


def problems(seen: Seen) -> list[str]:
    """What is wrong, a sentence each; none when the backup holds what it should."""
    return [*_wal(seen), *_steps(seen), *_heartbeat(seen), *_databases(seen)]


def _wal(seen: Seen) -> Iterator[str]:
    if seen.missing:
        more = f" and {len(seen.missing) - 1} more" if len(seen.missing) > 1 else ""
        yield (
            f"WAL file {seen.missing[0]}{more} is missing in the repository: nothing that was written after it can be "
            "restored. Run `slipway backup` now, which begins anew."
        )
    for text in pgbackrest.errors(seen.restored.get("log", [])):
        yield f"WAL in the repository cannot be read ({text}). Run `slipway backup` now, which begins anew."


def _steps(seen: Seen) -> Iterator[str]:
    if "problem" in seen.restored:
        step = str(seen.restored.get("step", ""))
        said = str(seen.restored["problem"])
        last = next((line for line in said.splitlines() if "ERROR" in line or "error" in line), said.strip())
        meant = pgbackrest.meaning(0, said) if step == "restore" else ""
        what = f"The backup {_STEPS.get(step, 'could not be verified')}"
        yield f"{what}: the repository {meant}." if meant else f"{what}: {last.splitlines()[0] if last else step}."


def _heartbeat(seen: Seen) -> Iterator[str]:
    if "problem" in seen.restored and "heartbeat" not in seen.restored:
        return
    at = seen.restored.get("heartbeat")
    if at is None:
        yield f"The restored backup has no heartbeat (database {heartbeat.DATABASE}), so how old it is cannot be told."
    elif seen.now - at > seen.heartbeat_seconds:
        yield (
            f"What was restored is {age(seen.now - at)} old, and {age(seen.heartbeat_seconds)} are allowed: WAL does "
            "not reach the repository, or the heartbeat is not written. `slipway status` says which."
        )
    elif at - seen.now > _FUTURE:
        yield (
            f"The heartbeat in the backup is {age(at - seen.now)} ahead of the clock, so how old it is cannot be told. "
            "Put the clock right (`timedatectl`), and repeat the drill."
        )


def _databases(seen: Seen) -> Iterator[str]:
    restored = seen.restored.get("databases")
    if restored is None:
        if "problem" not in seen.restored:
            yield "Which databases were restored could not be seen."
        return
    for name, live in seen.live.items():
        if name not in restored:
            if "problem" not in seen.restored:
                yield f"Database {name} is not in the restored backup."
            continue
        yield from _revisions(name, live["revisions"], restored[name]["revisions"])
        yield from _rows(name, live["rows"], restored[name]["rows"])


def _revisions(name: str, live: Mapping[str, str], restored: Mapping[str, str]) -> Iterator[str]:
    for table, revision in live.items():
        if table not in restored:
            yield f"Database {name} has no table {table} in the restored backup."
        elif restored[table] != revision:
            yield (
                f"Database {name} is at revision {restored[table] or 'none'} in the restored backup, and at "
                f"{revision or 'none'} on the live server. If it was migrated just now, repeat the drill."
            )


def _rows(name: str, live: Mapping[str, int], restored: Mapping[str, int]) -> Iterator[str]:
    for table, rows in live.items():
        # A table that is not among the largest of the restored ones was not counted.
        if table in restored and abs(restored[table] - rows) > max(_FEW, _SHARE * rows):
            yield (
                f"Table {table} of {name} has {restored[table]} rows in the restored backup, and about {rows} on the "
                "live server."
            )


def age(seconds: float) -> str:
    """A duration for people: `45 s`, `12 min`, `3 h 20 min` or `4 days`."""
    if seconds < 90:
        return f"{max(0, seconds):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{minutes // 1440} days"
