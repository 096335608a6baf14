"""One command of the app's owner, run by an unprivileged user that exists only while it runs.

It runs in a transient unit of systemd. What it may do is in SANDBOX; what it has started is killed with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

from slipway.base import process
from slipway.base.errors import FailedError
from slipway.observers.text import one_line
from slipway.observers.webhook import Left

SANDBOX = (
    "DynamicUser=yes",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectProc=invisible",
    "ProtectControlGroups=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "InaccessiblePaths=-/run/slipway",  # the lock, which whoever can read it could hold
    "MemoryMax=256M",
    "TasksMax=64",
    "KillSignal=SIGKILL",  # at the end of its time all of it ends at once
)

_STEP = 0.1  # seconds between two looks at the time
_KEPT = 4096  # bytes at the end of the output
_GRACE = 2.0  # seconds for systemd to end a unit


def run(
    unit: str,
    command: Sequence[str],
    content: bytes,
    variables: Mapping[str, str],
    timeout: float,
    left: Left,
) -> tuple[bool, str] | None:
    """Whether the command succeeded, and how it ended in words; None when it was killed, as no time was `left`.

    It reads `content` from its standard input. `timeout` is its whole time in seconds; `left` may end sooner.
    """
    if not os.access(command[0], os.X_OK):
        return False, "is not there, or cannot be executed"
    with os.fdopen(os.memfd_create("event"), "w+b") as given:  # unlike a pipe, the command can open it by its name, too
        given.write(content)
        given.seek(0)
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as stream:
            try:
                client = subprocess.Popen(
                    _arguments(unit, command, variables, timeout), stdin=given, stdout=writer, stderr=writer
                )
            finally:
                os.close(writer)
            with client:
                output = _read(stream, left)
                if output is None:
                    _kill(unit)
                    client.kill()
                    return None
    return client.returncode == 0, _how_it_ended(client.returncode, output)


def _arguments(unit: str, command: Sequence[str], variables: Mapping[str, str], timeout: float) -> list[str]:
    properties = [f"--property={item}" for item in (*SANDBOX, f"RuntimeMaxSec={timeout:g}")]
    environment = [f"--setenv={name}={value}" for name, value in variables.items()]
    # systemd would replace $NAME by what it has in the environment; $$ is a plain $.
    literal = [part.replace("$", "$$") for part in command]
    asked = ["--wait", "--pipe", "--collect", "--quiet", "--no-ask-password", f"--unit={unit}"]
    return ["systemd-run", *asked, *properties, *environment, "--", *literal]


def _read(stream: IO[bytes], left: Left) -> bytes | None:
    """The end of the output, when the command has ended; None when no time is left before."""
    output = b""
    while (seconds := left()) > 0:
        ready, _, _ = select.select([stream], [], [], min(_STEP, seconds))
        if ready:
            part = os.read(stream.fileno(), 65536)
            if not part:
                return output
            output = (output + part)[-_KEPT:]
    return None


def _kill(unit: str) -> None:
    """End what systemd has not ended yet."""
    with contextlib.suppress(FailedError):
        kill = ["systemctl", "--no-ask-password", "kill", "--signal=SIGKILL", f"{unit}.service"]
        process.run(kill, timeout=_GRACE)


def _how_it_ended(code: int, output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    said = f": {one_line(lines[-1].strip())}" if code != 0 and lines else ""
    return f"ended with code {code}{said}"
