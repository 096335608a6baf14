"""Running code that is not ours: as a user without rights, in a transient unit with a sandbox of its own.

Nothing that it starts outlives it, and it ends when the engine does. Two things come back: its answer, which is of
bounded size, and the end of what it has printed.
"""

from __future__ import annotations

import json
import os
import pkgutil
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from slipway.base import process
from slipway.base.errors import FailedError

ANSWER = 3  # the file descriptor on which the command answers, as what it prints may be anything
_LONGEST_ANSWER = 8 * 2**20  # bytes: a history of 10,000 migrations has 2 MB
_KEPT_OUTPUT = 2**18  # bytes of what was printed last

# See systemd.exec(5). There is no way to other users' processes, to the host's services, or to more rights. The file
# system is read-only except for a private /tmp and what `writable` names.
_SANDBOX = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "ProtectProc=invisible",
    "ProtectControlGroups=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "LockPersonality=yes",
    "KeyringMode=private",
    "RemoveIPC=no",  # the user's other processes keep theirs
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
    "InaccessiblePaths=-/run/dbus -/run/slipway -/run/systemd/private -/etc/slipway -/var/log -/var/spool -/dev/shm",
    "UMask=0022",
    # Whatever is left when the main process has ended is killed at once.
    "KillMode=control-group",
    "KillSignal=SIGKILL",
    "TimeoutStopSec=10",
    "OOMPolicy=continue",
)


@dataclass(frozen=True)
class Unit:
    """A transient unit: its name without `.service`, a title, the user, and what of the file system it can change."""

    name: str
    title: str
    user: str
    writable: tuple[Path, ...] = ()
    properties: tuple[str, ...] = ()  # more of systemd's


@dataclass(frozen=True)
class Result:
    """The exit code of a command, its answer (None: longer than it may be), and the end of what it has printed."""

    returncode: int
    answer: bytes | None
    printed: str

    @property
    def signal(self) -> int:
        """The number of the signal that the command was killed by; 0 when it ended by itself."""
        return max(0, self.returncode - 128)


def run(
    unit: Unit,
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    directory: Path,
    given: str = "",
    timeout: float | None = None,
) -> Result:
    """Run `command` in the unit and wait until it and all that it has started have ended.

    `environment` comes to PATH, HOME, USER and LANG, and is not among the unit's properties, which every user can read.
    `given` is its standard input. FailedError when it takes longer than `timeout` seconds.
    """
    request = {
        "command": [str(part) for part in command],
        "environment": process.environment_of(unit.user, environment),
        "directory": str(directory),
        "given": given,
    }
    with os.fdopen(os.memfd_create("request"), "w+") as file:
        json.dump(request, file)
        file.flush()
        file.seek(0)
        supervisor = (pkgutil.get_data(__package__, "supervisor.py") or b"").decode()
        program = [*start(unit), sys.executable, "-ISXutf8", "-c", supervisor]
        with subprocess.Popen(program, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
            try:
                answer, printed = _read(started, unit.title, timeout)
                code = started.wait()
            except BaseException:
                started.kill()
                end(unit)
                raise
    return Result(code, answer, printed.decode(errors="replace"))


def start(unit: Unit) -> list[str]:
    """The command before a command that starts it in the unit; one that was left by a killed engine is ended first."""
    end(unit)
    properties = [*_SANDBOX, *unit.properties]
    if unit.writable:
        properties.append("ReadWritePaths=" + " ".join(f"-{path}" for path in unit.writable))
    return [
        *("systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--service-type=exec"),
        *(f"--unit={unit.name}", f"--description={unit.title}", f"--uid={unit.user}", f"--gid={unit.user}"),
        *(f"--property={line}" for line in properties),
        "--",
    ]


def end(unit: Unit) -> None:
    """End the unit with all of its processes, if it is there."""
    process.run(["systemctl", "stop", "--quiet", f"{unit.name}.service"])


def _read(started: subprocess.Popen[bytes], title: str, timeout: float | None) -> tuple[bytes | None, bytes]:
    """Both outputs until they are closed; FailedError when that takes longer than `timeout` seconds."""
    deadline = None if timeout is None else time.monotonic() + timeout
    answer, printed = bytearray(), bytearray()
    assert started.stdout is not None  # noqa: S101  # both are pipes
    assert started.stderr is not None  # noqa: S101
    with selectors.DefaultSelector() as selector:
        selector.register(started.stdout, selectors.EVENT_READ, answer)
        selector.register(started.stderr, selectors.EVENT_READ, printed)
        while selector.get_map():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                said = process.tail(printed.decode(errors="replace"))
                raise FailedError(f"{title} did not finish within {timeout:g} s.", said)
            for key, _ in selector.select(left):
                file: IO[bytes] = key.fileobj  # type: ignore[assignment]  # it is one of the two
                part = os.read(file.fileno(), 2**16)
                if not part:
                    selector.unregister(file)
                elif key.data is answer:
                    answer += part[: _LONGEST_ANSWER + 1 - len(answer)]
                else:
                    printed += part
                    del printed[:-_KEPT_OUTPUT]
    return (bytes(answer) if len(answer) <= _LONGEST_ANSWER else None), bytes(printed)
