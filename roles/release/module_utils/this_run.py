"""This run of Ansible as the owner of deployments, and the processes that can be seen from it."""

from __future__ import annotations

import getpass
import multiprocessing
import os
import re
import socket
from pathlib import Path

from slipway.records import owner
from slipway.records.owner import Owner


def this_owner(pid: int | None = None) -> Owner:
    """Who deploys: a person, a machine and the run (the ansible-playbook process, which started this worker).

    RefusedError when SLIPWAY_RUN cannot be the id of a run.
    """
    pid = _playbook() if pid is None else pid
    return Owner(
        person=getpass.getuser(),
        controller=socket.gethostname(),
        process=pid,
        started=start_of(pid) or "",
        namespace=_namespace(),
        run=owner.check_run(os.environ.get(owner.RUN, "")),
    )


def start_of(pid: int) -> str | None:
    """When a process started, in ticks since boot (see proc(5)).

    None when there is none, or when it has ended and its parent has not noticed yet; "" on a machine without /proc.
    """
    if not Path("/proc/self/stat").exists():
        return "" if _is_running(pid) else None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[19] if fields[0] != "Z" else None


def _playbook() -> int:
    """The process that started this worker, as it was then: the kernel names another one once that was killed."""
    parent = multiprocessing.parent_process()
    return parent.pid if parent is not None and parent.pid is not None else os.getppid()


def _namespace() -> str:
    """The number of the PID namespace; "" on a machine without /proc."""
    try:
        return "".join(re.findall(r"\d+", str(Path("/proc/self/ns/pid").readlink())))
    except OSError:
        return ""


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
