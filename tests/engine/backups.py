"""Settings of backups for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipway.backup.settings import Settings

VALUES: dict[str, Any] = {
    "format": 1,
    "environment": "prod",
    "repository": "local",
    "path": "/var/lib/slipway/backups",
    "postgresql": True,
    "version": "17",
    "cluster": "main",
    "port": 5432,
    "stanza": "app-1",
    "files": True,
    "full_days": 7,
    "keep_full": 2,
    "heartbeat_minutes": 15,
    "max_age_hours": 28,
    "drill": True,
    "drill_days": 8,
}
SETTINGS = Settings(
    **{name: value for name, value in VALUES.items() if name != "format"} | {"path": Path(VALUES["path"])}
)
