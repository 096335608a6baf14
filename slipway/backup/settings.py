"""What the engine knows of the host's backups: /etc/slipway/backup.toml, which the role `backup` writes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from slipway.base import files
from slipway.base import settings as config
from slipway.base.errors import RefusedError

FORMAT = 1
NAME = "backup.toml"

STATE = Path("/var/lib/slipway/backup")
RECORDS = STATE / "records.jsonl"
SCRATCH = Path("/var/lib/slipway/drill")

# Where pgBackRest finds its configuration; apart from Debian's own, which may be somebody's.
PGBACKREST = Path("/etc/pgbackrest/slipway")
PASSPHRASE = Path("/etc/slipway/backup.passphrase")
LOCK = config.RUN_DIRECTORY / "backup.lock"

TIMERS = ("slipway-backup.timer", "slipway-heartbeat.timer", "slipway-drill.timer")


@dataclass(frozen=True)
class Settings:
    """The host's backups, with times in the unit that a name ends with. The role writes all: there are no defaults."""

    environment: str
    repository: str  # local; later host and s3
    path: Path  # of the repository, where it is local
    postgresql: bool  # whether the host has a cluster that is backed up
    version: str  # of that cluster
    cluster: str  # its name
    port: int
    stanza: str
    files: bool  # whether the files of apps are backed up
    full_days: int  # between two full backups
    keep_full: int
    heartbeat_minutes: int  # that the newest row of a restored backup may be old
    max_age_hours: int  # of the last backup, beyond which it is a failure
    drill: bool  # whether a timer runs the drill
    drill_days: int  # that the last drill may be old

    @property
    def databases(self) -> Path:
        """The repository of PostgreSQL; its owner is postgres."""
        return self.path / "postgresql"

    @property
    def app_files(self) -> Path:
        """The repository of the files; root's alone."""
        return self.path / "files"

    @property
    def programs(self) -> Path:
        """PostgreSQL's own programs."""
        return Path(f"/usr/lib/postgresql/{self.version}/bin")

    @property
    def timers(self) -> tuple[str, ...]:
        """The timers that have to run."""
        unwanted = {name for name, wanted in zip(TIMERS[1:], (self.postgresql, self.drill), strict=True) if not wanted}
        return tuple(name for name in TIMERS if name not in unwanted)


def find(directory: Path = config.SETTINGS_DIRECTORY) -> Settings | None:
    """The settings of the host's backups; None where it has none."""
    path = directory / NAME
    try:
        text = files.read_text(path)
    except FileNotFoundError:
        return None
    try:
        return parse(tomllib.loads(text), str(path))
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{path} is not TOML ({error}). Run site.yml to write it again.") from None


def load(directory: Path = config.SETTINGS_DIRECTORY) -> Settings:
    """The same; RefusedError where the host has no backups."""
    found = find(directory)
    if found is None:
        raise RefusedError(
            "This host has no backups: it has no PostgreSQL and no files of apps, or `backups` is false in the "
            "inventory. Change that, and run site.yml."
        )
    return found


def parse(values: Mapping[str, Any], source: str) -> Settings:
    """Settings from decoded TOML; RefusedError names `source` and the first key that is wrong."""
    found = values.get("format", FORMAT)
    if not isinstance(found, int) or found > FORMAT:
        raise RefusedError(
            f"{source} was written by a newer version of Slipway (format {found}; this version reads up to {FORMAT}). "
            "Run site.yml with the newer version."
        )
    hints = get_type_hints(Settings)
    arguments: dict[str, Any] = {}
    for field in fields(Settings):
        if field.name not in values:
            raise RefusedError(f"{source}: '{field.name}' is missing. Run site.yml to write the file again.")
        value = values[field.name]
        kind = hints[field.name]
        if kind is Path and isinstance(value, str):
            value = Path(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise RefusedError(f"{source}: '{field.name}' is {value!r}, but must be of type {kind.__name__}.")
        arguments[field.name] = value
    return Settings(**arguments)
