"""An app's settings for tests: the defaults that role `app` declares, and what the engine's settings file adds."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import yaml

SPECIFICATION = Path(__file__).resolve().parents[1] / "roles/app/meta/argument_specs.yml"


def defaults() -> dict[str, Any]:
    """The default of each setting of an app."""
    return copy.deepcopy(_declared())


@functools.cache
def _declared() -> dict[str, Any]:
    """Read once: it takes longer than most of the tests."""
    options = yaml.safe_load(SPECIFICATION.read_text())["argument_specs"]["main"]["options"]
    return {name: option["default"] for name, option in options["app_settings"]["options"].items()}


def written(root: Path = Path("/srv/logbook"), user: str = "nobody", **changes: Any) -> dict[str, Any]:
    """What the engine's settings file has for an app `logbook` below `root`, whose users are all `user`."""
    return {
        **defaults(),
        "app": "logbook",
        "environment": "prod",
        "root": str(root),
        "network": "none",
        "database": "postgresql",
        "database_owner": "migrate",
        "database_url": "DATABASE_URL",
        "database_parts": {},
        "database_passwords": {},
        "host_secrets": [],
        "filled_env": {},
        "filled_migrate_env": {},
        "user": user,
        "build_user": user,
        "migrate_user": user,
        "env_file": str(root / "env"),
        "migrate_env_file": str(root / "migrate.env"),
        "lock_file": "",
        "python": "/usr/bin/python3",
        "uv": "uv",
        "uv_cache": str(root / "cache"),
        "workers": 2,
        "generated_env": [],
        "migrate": ["alembic"],
        "allowed_signers": "",
        "watch_url": "",
        "watch_port": 443,
        "access_log": "",
        "certificate": "",
        "lease_seconds": 300,
        **changes,
    }
