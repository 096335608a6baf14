"""The parts that `make test` runs, and which of them run side by side."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One part: a command, the seconds it may take, and the containers that it starts."""

    name: str
    command: tuple[str, ...]
    seconds: float
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """Parts of which so many run side by side, the first of them first. The next stage begins when all have ended."""

    parts: tuple[Part, ...]
    at_once: int = 2


def _make(target: str, seconds: float, *hosts: str) -> Part:
    return Part(target, ("make", "--no-print-directory", target), seconds, hosts)


# A part that hangs is ended after two to four times the seconds that it takes on two processors.
PREPARE = _make("prepare", 900)
LINT = _make("lint", 600)
UNIT = _make("unit", 900)
MATRIX = _make("matrix", 900)
APP = _make("app", 900)
FAULTS = _make("faults", 4000, "slipway-faults")
SHARED = _make("shared", 4000, "slipway-shared", "slipway-shared-2")
ACCEPTANCE = _make("acceptance", 2400, "slipway-acceptance")
MOLECULE = _make("molecule", 1200, "slipway-molecule-12", "slipway-molecule-13")
FLEET = _make("fleet", 1200, "slipway-fleet-1", "slipway-fleet-2")
APPS = _make("apps", 3000, "slipway-apps-1", "slipway-apps-2")
EXTERNAL = _make("external", 2400, "slipway-external", "slipway-external-db", "slipway-dbhost-app", "slipway-dbhost-db")
BACKUP = _make("backup", 3000, "slipway-backup-13")
UPGRADE = _make("upgrade", 1200, "slipway-upgrade")

# `lint` fills the processor that `unit` leaves idle at its end. Two of the others use both, each with hosts of its own;
# the longest ones go first, and the short ones fill what is left at the end.
STAGES: tuple[Stage, ...] = (
    Stage((PREPARE,)),
    Stage((UNIT, LINT)),
    Stage((SHARED, FAULTS, ACCEPTANCE, APPS, FLEET, EXTERNAL, BACKUP, MOLECULE, UPGRADE, APP, MATRIX)),
)

# New suites: they run by name alone, until each has passed ten times in a row on a busy machine.
BY_NAME = frozenset((APPS.name, EXTERNAL.name, BACKUP.name))


def stages(names: tuple[str, ...] = ()) -> tuple[Stage, ...]:
    """The stages without the parts of BY_NAME, or with the named parts alone; ValueError names a part that is none.

    `prepare` comes with every part that wants what it brings: two that install packages at once disturb each other.
    """
    known = [part.name for stage in STAGES for part in stage.parts]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"There is no part '{unknown[0]}'. The parts are: {', '.join(known)}.")
    names = names or tuple(name for name in known if name not in BY_NAME)
    wanted = {*names, *([] if set(names) <= {LINT.name} else [PREPARE.name])}
    kept = [Stage(tuple(part for part in stage.parts if part.name in wanted), stage.at_once) for stage in STAGES]
    return tuple(stage for stage in kept if stage.parts)
