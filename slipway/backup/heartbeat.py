"""One row that is written again and again, so that a restored backup says up to when it is.

It is in a database of Slipway's own, whose name no app can have: no app sees it, nor does its alembic.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from slipway.backup import cluster
from slipway.backup.settings import Settings
from slipway.base.errors import FailedError

DATABASE = "slipway_host"

READ = "SELECT extract(epoch FROM at)::bigint FROM heartbeat"

_TABLE = """
CREATE TABLE IF NOT EXISTS heartbeat (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    at timestamptz NOT NULL
)
"""
_BEAT = """
INSERT INTO heartbeat (at) VALUES (clock_timestamp()) ON CONFLICT (id) DO UPDATE SET at = excluded.at
RETURNING extract(epoch FROM at)::bigint
"""


def beat(settings: Settings) -> datetime:
    """Write the row, and make its database first where it is missing; the time that it has now."""
    try:
        row = cluster.ask(settings, _BEAT, DATABASE)
    except FailedError:
        _create(settings)
        row = cluster.ask(settings, _BEAT, DATABASE)
    return datetime.fromtimestamp(int(row[0][0]), UTC)


def beat_when_it_answers(settings: Settings, patience: float, interval: float = 2.0) -> datetime:
    """The same, for a timer: a server that is being restarted is waited for, so many seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return beat(settings)
        except FailedError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(interval)


def _create(settings: Settings) -> None:
    if DATABASE not in cluster.databases(settings):
        cluster.ask(settings, f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8'")
        cluster.ask(settings, f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
    cluster.ask(settings, _TABLE, DATABASE)
