"""The sandboxed units in which the programs of backups run: beside the apps, and after them in everything."""

from __future__ import annotations

from pathlib import Path

from slipway.backup import pgbackrest, restic
from slipway.backup import settings as backups
from slipway.backup.settings import Settings
from slipway.base import confined, process

# The apps come first: less of the processor and of the disk when both want it.
MODEST = ("Nice=10", "CPUWeight=20", "IOWeight=20", "IOSchedulingClass=best-effort", "IOSchedulingPriority=7")
_LOCAL = ("PrivateNetwork=yes",)
# Containers often have the second alone; the file system is read-only but for the repository.
_READS_ALL = "CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE"
DRILL_USER = "slipway_drill"

# A repository of terabytes takes hours; what hangs ends some time.
LONGEST = 12 * 3600.0
QUICK = 600.0


def databases(settings: Settings) -> confined.Unit:
    """Where pgbackrest runs as the user postgres, and writes the repository."""
    return confined.Unit(
        "slipway-pgbackrest",
        "pgbackrest",
        pgbackrest.USER,
        (settings.databases, Path("/run/postgresql")),
        (*MODEST, *_LOCAL),
    )


def app_files(settings: Settings, title: str = "restic", *, reads_all: bool = True) -> confined.Unit:
    """Where restic runs as root, with no right of root but to read the files of all users, if at all."""
    return confined.Unit(
        "slipway-restic",
        title,
        "root",
        (settings.app_files,),
        (*MODEST, *_LOCAL),
        {
            "PrivateUsers": "no",
            "CapabilityBoundingSet": _READS_ALL if reads_all else "",
            "InaccessiblePaths": "-/run/dbus -/run/slipway -/run/systemd/private",
        },
    )


def drill() -> confined.Unit:
    """Where a backup is restored and looked at: it reaches neither a network nor the live server."""
    return confined.Unit(
        "slipway-drill-work",
        "the drill",
        DRILL_USER,
        (backups.SCRATCH,),
        (
            *MODEST,
            *_LOCAL,
            "SupplementaryGroups=postgres",  # to read the repository and the pass phrase
            "InaccessiblePaths=-/run/postgresql -/var/lib/postgresql -/srv",
            "PrivateIPC=yes",
        ),
    )


def run_pgbackrest(settings: Settings, *arguments: str, timeout: float = QUICK) -> confined.Result:
    command = pgbackrest.command(settings, *arguments)
    return confined.run(databases(settings), command, environment={}, directory=Path("/"), timeout=timeout)


def run_restic(
    settings: Settings, command: list[str], *, timeout: float = QUICK, reads_all: bool = True
) -> confined.Result:
    unit = app_files(settings, reads_all=reads_all)
    return confined.run(unit, command, environment=restic.ENVIRONMENT, directory=Path("/"), timeout=timeout)


def ask_pgbackrest(settings: Settings, *arguments: str) -> str:
    """What pgbackrest prints on its standard output for a question that changes nothing; "" where it fails."""
    command = pgbackrest.command(settings, *arguments)
    return process.run(command, user=pgbackrest.USER, timeout=60).stdout
