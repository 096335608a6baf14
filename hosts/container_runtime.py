"""The container engine: uses one that is running, or starts or installs Docker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

START_SECONDS = 60


class HostError(Exception):
    """Why a host cannot be used, as one sentence that says what to do."""


def say(message: str) -> None:
    """Print progress to standard error, so that programs can read standard output."""
    print(message, file=sys.stderr, flush=True)


_HELP = "Run 'docker "  # how the last line of Docker's errors begins


def run(*command: str | Path, check: bool = True, stdin: str | None = None) -> str:
    """Standard output of a command; HostError with the last line of standard error when it fails."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, input=stdin, errors="replace"
    )
    if check and done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line and not line.startswith(_HELP)]
        reason = said[-1:] or ["no output"]
        raise HostError(f"'{' '.join(str(part) for part in command[:3])}' failed: {reason[0]}")
    return done.stdout.strip()


def answers() -> bool:
    """Whether a Docker daemon answers."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def ensure() -> None:
    """Make sure that a container engine is running: start it, or, as root on Debian, install it first."""
    if answers():
        return
    if shutil.which("dockerd") is None:
        install("docker.io")
    if os.geteuid() != 0:
        raise HostError("No container engine answers. Start Docker (`sudo systemctl start docker`) and try again.")
    _start()


def install(*packages: str) -> None:
    """Install Debian packages; HostError that names them if this user or system cannot do that."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise HostError(
            f"{' and '.join(packages)} is missing. Install it (on Debian: apt-get install {' '.join(packages)})."
        )
    say(f"  installing {', '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "--quiet", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise HostError(f"apt-get {arguments[0]} failed: {done.stderr.strip().splitlines()[-1:]}")


def need(packages: Mapping[str, str]) -> None:
    """Make sure that programs are installed. `packages` has the Debian package of each program."""
    if absent := [package for program, package in packages.items() if shutil.which(program) is None]:
        install(*dict.fromkeys(absent))


def _start() -> None:
    """Start the daemon: with systemd if that is running, otherwise as a process that outlives this one."""
    by_systemd = Path("/run/systemd/system").is_dir()
    if by_systemd:
        run("systemctl", "start", "docker")
    else:
        say("  starting dockerd")
    for second in range(START_SECONDS):
        if answers():
            return
        # Tried again, as a daemon that is still stopping keeps the next one from starting.
        if second % 10 == 0 and not by_systemd:
            _fork_daemon()
        time.sleep(1)
    raise HostError(f"dockerd did not answer within {START_SECONDS} s; see /tmp/dockerd.log.")


def _fork_daemon() -> None:
    _forget_dead(Path("/var/run/docker.pid"), "dockerd")
    _forget_dead(Path("/var/run/docker/containerd/containerd.pid"), "containerd")
    with Path("/tmp/dockerd.log").open("ab") as log:  # noqa: S108  # used by root, on a machine without systemd
        # Forked, so that it is not a child of this process.
        command = ["setsid", "--fork", "dockerd"]
        subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=True)


def _forget_dead(pid_file: Path, program: str) -> None:
    """Remove the PID file of a killed daemon: now its number may belong to another process, or to a zombie."""
    try:
        stat = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text()  # "pid (program) state ..."
    except (OSError, ValueError):
        stat = ""
    name, _, rest = stat.partition("(")[2].rpartition(")")
    if name != program or rest.split()[:1] == ["Z"]:
        pid_file.unlink(missing_ok=True)
