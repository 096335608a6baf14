"""One deployment of an app at a time: a kernel lock while a phase runs, a lease between its phases.

The kernel lock (flock) ends with the process that holds it, whatever ended that. Between two phases no process
of ours runs, so the lock file also says whose deployment it is and until when: on the clock that counts from
boot, which nobody can set. The file lies below /run: a reboot ends every lease.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from slipway.base.errors import LockedError

# A phase of a run that died goes on in its unit; whoever takes over waits so many seconds for it to end by itself.
TAKEOVER_WAIT = 180.0


@dataclass(frozen=True)
class Lease:
    """Whose deployment is under way. `renewed` and `until` are seconds since boot."""

    owner: str
    deployment: str
    phase: str
    version: str
    pid: int
    renewed: float
    until: float

    def is_held_against(self, owner: str, superseded: tuple[str, ...], now: float) -> bool:
        """Whether `owner` has to wait: another's lease that has not ended, and whose owner is not known dead."""
        return self.owner != owner and self.owner not in superseded and now < self.until


def clock() -> float:
    """Seconds since boot, time asleep included; unaffected by changes of the date."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lock:
    """The lock of an app, held (see `hold`); reads and writes the lease."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def lease(self) -> Lease | None:
        self._file.seek(0)
        return _parse(self._file.read())

    def renew(self, owner: str, deployment: str, phase: str, version: str, seconds: float) -> None:
        now = clock()
        self._write(json.dumps(asdict(Lease(owner, deployment, phase, version, os.getpid(), now, now + seconds))))

    def end_lease(self) -> None:
        self._write("")

    def _write(self, content: str) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(content)
        self._file.flush()


@contextlib.contextmanager
def hold(path: Path, app: str, wait: float = 0) -> Iterator[Lock]:
    """Hold the app's kernel lock; LockedError names the holder when it is not free within `wait` seconds."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with path.open("a+") as file:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise busy(app, _parse(path.read_text())) from None
                time.sleep(0.1)
        yield Lock(file)


def busy(app: str, lease: Lease | None) -> LockedError:
    """The sentence for somebody who comes second."""
    if lease is None:
        return LockedError(f"Another run of slipway is at work on {app}. Try again when it is done.")
    return LockedError(
        f"{app} is being deployed by {lease.owner} ({lease.version}, phase {lease.phase}, "
        f"{max(0, clock() - lease.renewed):.0f} s ago). Try again when that is done; `slipway status {app}` shows it.",
        holder=lease.owner,
    )


def read(path: Path) -> Lease | None:
    """The lease as it stands, for showing; None when there is none."""
    try:
        return _parse(path.read_text())
    except FileNotFoundError:
        return None


def _parse(text: str) -> Lease | None:
    try:
        return Lease(**json.loads(text))
    except (json.JSONDecodeError, TypeError):
        return None
