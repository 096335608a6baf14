"""Who holds a lock: the kernel shows it with the open files of each process."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path

from slipway.observers.text import one_line

PROC = Path("/proc")


@dataclass(frozen=True)
class Holder:
    """A process, the number of its user, and its command line on one line."""

    pid: int
    uid: int
    command: str

    @property
    def is_ours(self) -> bool:
        """Whether it runs as the user of the engine. No other one is to have a lock."""
        return self.uid == os.geteuid()

    def __str__(self) -> str:
        return f"process {self.pid} of {self.user} ({self.command})" if self.command else f"process {self.pid}"

    @property
    def user(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"user {self.uid}"


def of(path: Path) -> Holder | None:
    """The process that holds a flock on a file; None when there is none, or this process may not see it."""
    try:
        wanted = path.stat()
    except OSError:
        return None
    for process in PROC.iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):  # it has ended meanwhile, or is not ours to be looked at
                if _holds(process, wanted):
                    return Holder(int(process.name), process.stat().st_uid, _command(process))
    return None


def _holds(process: Path, wanted: os.stat_result) -> bool:
    for link in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if os.path.samestat(link.stat(), wanted):
                shown = (process / "fdinfo" / link.name).read_text()
                if re.search(r"^lock:.*\bFLOCK\b", shown, re.MULTILINE):
                    return True
    return False


def _command(process: Path) -> str:
    """What it was started with; of a process that has ended meanwhile nothing."""
    try:
        written = (process / "cmdline").read_bytes()[:1000].replace(b"\0", b" ")
    except OSError:
        return ""
    return one_line(written.decode(errors="replace"), 100).strip()
