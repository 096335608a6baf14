"""One deployment of an app at a time: a kernel lock while a command runs, a lease between two commands.

The kernel lock (flock) ends with the process that holds it, however that ends. Between two commands of a deployment no
process of the engine runs, so the lock file also has a lease: the owner of the deployment, and until when it is theirs,
on the clock since boot, which nobody can set. The file is below /run, so a reboot ends every lease.

Whoever can open the file could hold its lock for ever. So it is root's alone, and so is its directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from slipway.base import files
from slipway.base.errors import LockedError
from slipway.deployment import holder
from slipway.records import formats, phases

FORMAT = 1

# The phase of a killed run goes on in its unit. A run that takes over waits this many seconds for its end.
TAKEOVER_WAIT = 180.0
# Observers of a deployment that is closed, such as hooks, may take so many seconds at most (see slipway/observers).
OBSERVERS_WAIT = 20.0
# A client that has disconnected in the meantime is seen to be gone after so many seconds; then nothing may be opened.
CLIENT_SECONDS = 1.0
DISCONNECTED = "The client disconnected while this command waited. Nothing was changed."
_SHORT_WAIT = 2.0  # seconds for a command that is no deployment to end


@dataclass(frozen=True)
class Lease:
    """The owner of the deployment in progress. `renewed` and `until` are seconds since boot."""

    owner: str
    deployment: str
    phase: str
    version: str
    pid: int
    renewed: float
    until: float

    def is_held_against(self, owner: str, superseded: tuple[str, ...], now: float) -> bool:
        """Whether `owner` has to wait: another owner has a lease that has not ended, and is not superseded."""
        return self.owner != owner and self.owner not in superseded and now < self.until


def clock() -> float:
    """Seconds since boot, including suspended time; changes of the date do not affect it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lock:
    """The lock of an app while it is held (see `hold`). Reads and writes the lease."""

    def __init__(self, file: TextIO, waited: bool) -> None:
        self._file = file
        self.waited = waited  # another process held it first

    def lease(self) -> Lease | None:
        self._file.seek(0)
        return _parse(self._file.read(), self._file.name)

    def renew(self, owner: str, deployment: str, phase: str, version: str, seconds: float) -> None:
        now = clock()
        lease = Lease(owner, deployment, phase, version, os.getpid(), now, now + seconds)
        self._write(json.dumps(formats.stamped(lease, FORMAT)))

    def end_lease(self) -> None:
        self._write("")

    def _write(self, content: str) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(content)
        self._file.flush()


@contextlib.contextmanager
def hold(path: Path, app: str, wait: float = 0) -> Iterator[Lock]:
    """Hold the app's kernel lock. LockedError names the holder when the lock is not free within `wait` seconds.

    A holder without a lease is no deployment, but a command such as `prune` or the end of a standby: it is waited for a
    little in any case.
    """
    with _open(path) as file:
        started = time.monotonic()
        waited = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting = time.monotonic() - started
                if waiting >= wait and ((lease := read(path)) is not None or waiting >= _SHORT_WAIT):
                    raise busy(app, path, lease) from None
                waited = True
                time.sleep(0.1)
        yield Lock(file, waited)


def _open(path: Path) -> TextIO:
    """The file with the lock, made if it is not there. Those of an earlier version of Slipway could be read by all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise files.UnfitError(path, "it is not a regular file. Remove it")  # noqa: TRY301  # it is one of several
        os.fchmod(descriptor, 0o600)
        return os.fdopen(descriptor, "r+")
    except BaseException:
        os.close(descriptor)
        raise


def busy(app: str, path: Path, lease: Lease | None) -> LockedError:
    """The error for a run that finds the app locked, or at work."""
    found = holder.of(path)
    if found is not None and not found.is_ours:
        return LockedError(
            f"The lock of {app} ({path}) is held by {found}, which is no command of slipway. "
            f"End it with `kill {found.pid}`, then try again."
        )
    if lease is None:
        who = f" ({found})" if found is not None else ""
        return LockedError(f"Another slipway command is running for {app}{who}. Try again when it has finished.")
    return LockedError(
        f"{app} is being deployed by {lease.owner} ({lease.version}, phase {lease.phase}, "
        f"{max(0, clock() - lease.renewed):.0f} s ago). Try again when that has finished; "
        f"`slipway status {app}` shows it.",
        holder=lease.owner,
    )


def read(path: Path) -> Lease | None:
    """The lease as it is now, to be shown; None when there is none.

    RefusedError when a newer version of the engine wrote it.
    """
    try:
        return _parse(files.read_text(path), str(path))
    except FileNotFoundError:
        return None


def _parse(text: str, source: str) -> Lease | None:
    try:
        value = files.decode_json(text)
    except ValueError:  # empty or incomplete
        return None
    if not isinstance(value, dict):
        return None
    formats.check(value, FORMAT, source)
    arguments, _ = formats.split(value, Lease)
    try:
        return Lease(**{**arguments, "phase": phases.RENAMED_PHASES.get(arguments["phase"], arguments["phase"])})
    except (KeyError, TypeError):
        return None
