"""Running code that is not ours: as a user without rights, in a transient unit with a sandbox of its own.

Nothing that it starts outlives it, and it ends when the engine does, or soon after its time. Two things come back: its
answer, which is of bounded size, and the end of what it has printed.
"""

from __future__ import annotations

import json
import os
import pkgutil
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from slipway.base import process
from slipway.base.errors import FailedError

ANSWER = 3  # the file descriptor on which the command answers, as what it prints may be anything
_LONGEST_ANSWER = 8 * 2**20  # bytes: a history of 10,000 migrations has 2 MB
_MARGIN = 30.0  # seconds after its time in which the engine ends a unit itself
_INTERVAL = 0.2  # seconds between two looks at whether the unit has ended
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
    "PrivateUsers=yes",  # other processes of the same user are out of reach, with what they see of the host
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
    # The apps and PostgreSQL come first.
    "OOMScoreAdjust=500",
    "TasksMax=2000",
    "MemoryMax=80%",
)


@dataclass(frozen=True)
class Unit:
    """A transient unit: its name without `.service`, a title, the user, and what of the file system it can change.

    `instead` are directives of the sandbox that get another value for this unit.
    """

    name: str
    title: str
    user: str
    writable: tuple[Path, ...] = ()
    properties: tuple[str, ...] = ()  # more of systemd's
    instead: Mapping[str, str] = field(default_factory=dict)


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
    watch: Callable[[], None] = lambda: None,
) -> Result:
    """Run `command` in the unit and wait until it and all that it has started have ended.

    `environment` comes to PATH, HOME, USER and LANG, and is not among the unit's properties, which every user can read.
    `given` is its standard input. FailedError when it takes longer than `timeout` seconds. `watch` is called all the
    time, and ends it with an error of its own.
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
        program = [*start(unit, timeout), sys.executable, "-ISXutf8", "-c", supervisor]
        with subprocess.Popen(program, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
            try:
                answer, printed = _read(started, unit.title, timeout, watch)
                code = started.wait()
            except BaseException:
                started.kill()
                end(unit)
                raise
    return Result(code, answer, printed.decode(errors="replace"))


def start(unit: Unit, timeout: float | None) -> list[str]:
    """The command before a command that starts it in the unit; one that was left by a killed engine is ended first."""
    end(unit)
    # systemd would not take a second value in the place of the first for each of them.
    sandbox = [line for line in _SANDBOX if line.partition("=")[0] not in unit.instead]
    properties = [*sandbox, *(f"{name}={value}" for name, value in unit.instead.items()), *unit.properties]
    if timeout is not None:  # also when the engine is not there any more to end it
        properties.append(f"RuntimeMaxSec={timeout + _MARGIN:g}")
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


def _read(
    started: subprocess.Popen[bytes], title: str, timeout: float | None, watch: Callable[[], None]
) -> tuple[bytes | None, bytes]:
    """Both outputs until they are closed, or the unit has ended; FailedError when that takes longer than `timeout` s.

    Somebody else may keep an output open: what has run in the unit may have given it away.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    answer, printed = bytearray(), bytearray()
    assert started.stdout is not None  # noqa: S101  # both are pipes
    assert started.stderr is not None  # noqa: S101
    with selectors.DefaultSelector() as selector:
        selector.register(started.stdout, selectors.EVENT_READ, answer)
        selector.register(started.stderr, selectors.EVENT_READ, printed)
        while selector.get_map():
            watch()
            has_ended = started.poll() is not None
            if deadline is not None and time.monotonic() > deadline:
                said = process.tail(printed.decode(errors="replace"))
                raise FailedError(f"{title} did not finish within {timeout:g} s.", said)
            ready = selector.select(0 if has_ended else _INTERVAL)
            if has_ended and not ready:
                break
            for key, _ in ready:
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
