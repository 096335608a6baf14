"""The files' part of a drill: the repository is checked, and some files are read back out of the newest snapshot."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from slipway.backup import restic, units
from slipway.backup.drill_checks import age
from slipway.backup.settings import Settings
from slipway.base import process
from slipway.base.errors import FailedError

# One look at all that a snapshot lists, which may be much: how many files there are, and some of them, other ones each
# time.
_PICK = """
/"type":"file"/ { n++; if (n <= 3) kept[n] = $0; else { at = int(rand() * n) + 1; if (at <= 3) kept[at] = $0 } }
/"struct_type":"snapshot"/ || /^exit code/ || /"message_type":"exit_error"/ { print }
BEGIN { srand() }
END { print n + 0; for (i in kept) print kept[i] }
"""
_LARGEST = 64 * 2**20  # bytes of a file that is read back
_ALL_BELOW = 256 * 2**20  # bytes of a repository that is read as a whole; of a larger one a part
_PART = "5%"


@dataclass(frozen=True)
class Found:
    """What was found: the snapshot, how many files it has, and how many were read back."""

    snapshot: str
    files: int
    read: int
    problems: tuple[str, ...] = ()


def look(settings: Settings) -> Found:
    """Check the repository and read a sample back; FailedError where that cannot be done."""
    last, count, chosen = _newest(settings)
    problems = list(_too_old(settings, last))
    share = "100%" if size(settings.app_files) < _ALL_BELOW else _PART
    _run(settings, restic.command(settings, "check", f"--read-data-subset={share}"), timeout=units.LONGEST)
    problems += _read_back(settings, last, chosen)
    return Found(last.name, count, len(chosen), tuple(problems))


def _newest(settings: Settings) -> tuple[restic.Snapshot, int, list[restic.File]]:
    """The newest snapshot, how many files it has, and some of them; FailedError where there is none to be listed."""
    command = restic.command(settings, "ls", f"--host={settings.stanza}", "--tag=slipway", "latest")
    # What restic complains of is not lost in the pipe, and its exit code comes as a line.
    script = 'program=$1; shift; { "$@" || echo "exit code $?"; } | awk "$program"'
    said = _run(settings, ["/bin/sh", "-c", script, "sh", _PICK, *command])
    if failed := re.search(r"^exit code (\d+)$", said, re.MULTILINE):
        meant = restic.meaning(int(failed[1]), said)
        if "no snapshot found" in said:
            meant = "has no snapshot yet: run `slipway backup`"
        raise FailedError(f"The repository of files {settings.app_files} {meant}.", process.tail(said))
    number = next((line for line in said.splitlines() if line.isdigit()), "")
    found = restic.snapshots(said)
    if not number or not found:
        raise FailedError("The newest snapshot of files cannot be listed.", process.tail(said))
    return found[-1], int(number), [file for file in restic.listed(said) if file.size <= _LARGEST]


def _too_old(settings: Settings, last: restic.Snapshot) -> list[str]:
    seconds = time.time() - datetime.fromisoformat(last.time).timestamp()
    if seconds <= settings.max_age_hours * 3600:
        return []
    return [f"The newest snapshot of files is {age(seconds)} old. Run `slipway backup`."]


def size(place: Path) -> int:
    """The bytes of all files below a directory."""
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def _read_back(settings: Settings, snapshot: restic.Snapshot, chosen: Sequence[restic.File]) -> list[str]:
    """What cannot be read back whole, a sentence each. restic compares what it reads with the hashes that it has."""
    dump = shlex.join(restic.command(settings, "dump", snapshot.name))
    script = f'for path; do {dump} "$path" | wc --bytes >&3; done'
    done = units.run_restic(
        settings, ["/bin/sh", "-c", script, "sh", *(file.path for file in chosen)], timeout=units.LONGEST
    )
    sizes = (done.answer or b"").decode().split()
    if len(sizes) != len(chosen):
        raise FailedError(f"Files of snapshot {snapshot.name} could not be read back.", process.tail(done.printed))
    return [
        f"{file.path} cannot be read back out of snapshot {snapshot.name}."
        for file, size in zip(chosen, sizes, strict=True)
        if size != str(file.size)
    ]


def _run(settings: Settings, command: list[str], timeout: float = units.QUICK) -> str:
    done = units.run_restic(settings, command, timeout=timeout, reads_all=False)
    if done.returncode != 0:
        meant = restic.meaning(done.returncode, done.printed)
        raise FailedError(f"The repository of files {settings.app_files} {meant}.", process.tail(done.printed))
    return done.printed
