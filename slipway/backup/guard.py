"""One backup or drill at a time: a kernel lock, which ends with the process that holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from slipway.backup import settings as backups
from slipway.base.errors import LockedError


@contextlib.contextmanager
def held(what: str, patience: float = 0, path: Path | None = None) -> Iterator[None]:
    """Hold the lock of the host's backups; LockedError, which says what runs, when it is not free in time.

    `what` is what this process does, for whoever comes meanwhile, such as "backup".
    """
    path = path or backups.LOCK
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    raise _busy(file.read(200)) from None
                time.sleep(0.2)
        try:
            file.truncate(0)
            file.write(f"{what}, process {os.getpid()}")
            file.flush()
            yield
        finally:
            file.truncate(0)


def _busy(holder: str) -> LockedError:
    return LockedError(
        f"Another one is at work on this host's backups ({holder.strip() or 'it has just begun'}). Nothing was "
        "changed; try again when it has ended.",
        holder,
    )
