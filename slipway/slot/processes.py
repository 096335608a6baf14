"""The processes of a slot's service: which there are, which of them are stopped, and when its workers last reported."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slipway.base import files, process

PROC = Path("/proc")
# Where the tree of control groups is mounted: version 2 alone, or beside version 1.
CONTROL_GROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd"))
RUN = Path("/run")

_SIGNAL_WAIT = 2.0  # seconds that a process has to follow SIGSTOP: it may be in the middle of a disk operation
_WORKER_FILE = "wgunicorn-"  # how the name of the file begins whose times a worker of Gunicorn sets


@dataclass(frozen=True)
class Process:
    """One process: its number, and its start in clock ticks since boot. A number alone is given out again."""

    pid: int
    started: int


@dataclass(frozen=True)
class Status:
    """What the kernel says of a process: the letter of its state (R, S, D, T, Z), its parent and its start."""

    state: str
    parent: int
    started: int


@dataclass(frozen=True)
class Slot:
    """The processes of a running service: Gunicorn's main process, its workers, and whatever else they have started."""

    main: Process
    workers: tuple[Process, ...]
    others: tuple[Process, ...] = ()
    oom_score: int = 0  # that its unit gives them, see `set_oom_score`

    @property
    def children(self) -> tuple[Process, ...]:
        """All but the main process."""
        return (*self.workers, *self.others)

    @property
    def all(self) -> tuple[Process, ...]:
        return (self.main, *self.children)


def parse_stat(text: str) -> Status:
    """Read /proc/<pid>/stat. The second field is the program's name, which may have spaces and brackets in it."""
    fields = text.rpartition(")")[2].split()
    return Status(state=fields[0], parent=int(fields[1]), started=int(fields[19]))


def status(pid: int) -> Status | None:
    """What the kernel says of a process; None when there is none of that number."""
    try:
        return parse_stat((PROC / str(pid) / "stat").read_text(errors="replace"))  # a name may have any bytes
    except (OSError, IndexError, ValueError):
        return None


def is_there(found: Process) -> bool:
    """Whether that process still exists and has not ended: a zombie has."""
    now = status(found.pid)
    return now is not None and now.started == found.started and now.state not in "ZX"


def is_stopped(found: Process) -> bool:
    now = status(found.pid)
    return now is not None and now.started == found.started and now.state == "T"


def of_service(app: str, slot: str) -> Slot | None:
    """The processes of a slot's service as they are now; None when it does not run."""
    properties = "--property=MainPID,ControlGroup,OOMScoreAdjust"
    shown = process.run(["systemctl", "show", properties, f"{app}@{slot}.service"]).stdout
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    main, group = int(values.get("MainPID") or 0), values.get("ControlGroup", "")
    if not main or not group:
        return None
    found = {pid: now for pid in _members(group) | {main} if (now := status(pid)) is not None and now.state not in "ZX"}
    if main not in found:
        return None
    known = {pid: Process(pid, now.started) for pid, now in sorted(found.items())}
    workers = tuple(known[pid] for pid in known if found[pid].parent == main)
    others = tuple(item for pid, item in known.items() if pid != main and item not in workers)
    return Slot(known[main], workers, others, int(values.get("OOMScoreAdjust") or 0))


def _members(group: str) -> set[int]:
    for root in CONTROL_GROUPS:
        with contextlib.suppress(OSError):
            return {int(line) for line in (root / group.lstrip("/") / "cgroup.procs").read_text().split()}
    return set()


def stop(found: Iterable[Process]) -> bool:
    """SIGSTOP to processes; whether all of them are stopped, or gone, soon afterwards."""
    wanted = list(found)
    for item in wanted:
        _send(item, signal.SIGSTOP)
    deadline = time.monotonic() + _SIGNAL_WAIT
    while left := [item for item in wanted if is_there(item) and not is_stopped(item)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002 if len(left) < len(wanted) else 0.001)
    return True


def resume(found: Iterable[Process]) -> None:
    """SIGCONT to processes."""
    for item in found:
        _send(item, signal.SIGCONT)


def _send(found: Process, number: signal.Signals) -> None:
    if is_there(found):
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, number)


def set_oom_score(found: Iterable[Process], score: int) -> None:
    """How willing the kernel is to kill processes when memory runs out, from -1000 to 1000."""
    for item in found:
        with contextlib.suppress(OSError):
            (PROC / str(item.pid) / "oom_score_adj").write_text(f"{score}\n")


def heartbeat_ages(main: Process) -> list[float]:
    """Seconds since each worker last told Gunicorn's main process that it is alive.

    A worker does that by setting the times of a file that has no name any more and that both have open. Gunicorn
    takes the time of modification, which it sets to the clock that counts from boot; before version 21 it took the
    time of change.
    """
    ages = []
    with contextlib.suppress(OSError):
        for link in (PROC / str(main.pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if _WORKER_FILE in str(link.readlink()):
                    found = link.stat()
                    since_boot = time.monotonic() - found.st_mtime
                    ages.append(since_boot if since_boot >= 0 else time.time() - found.st_ctime)
    return ages


def at_work(app: str, slot: str, workers: Iterable[Process]) -> int | None:
    """How many requests a slot's workers are at work on, those included whose answer is out and which do more.

    Each worker keeps its number in a file (see gunicorn.conf.py). None when one has none.
    """
    total = 0
    for item in workers:
        try:
            content = files.read_bytes(RUN / f"{app}-{slot}" / f"at-work.{item.pid}", limit=4)
            total += int.from_bytes(content, "little")
        except OSError:
            return None
    return total
