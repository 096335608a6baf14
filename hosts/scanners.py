"""Scanners of others, which tests put a host through: from PyPI, pinned by hash, and from Debian, in an image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hosts import images, scratch
from hosts.container_runtime import run
from hosts.host import Host

REQUIREMENTS = Path(__file__).with_name("scanners.txt")
DOCKERFILE = Path(__file__).with_name("Dockerfile.scanners")
DIRECTORY = scratch.PROJECT / ".cache/scanners"
IMAGE = "slipway-scanners:13"


def program(name: str) -> Path:
    """One of the scanners from PyPI, which are installed at the first use into a virtualenv of their own."""
    done = DIRECTORY / ".installed"
    if not done.exists() or done.read_text() != REQUIREMENTS.read_text():
        uv = scratch.PROJECT / ".tools/bin/uv"
        python = DIRECTORY / "bin/python"
        run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, DIRECTORY)
        run(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "--requirement", REQUIREMENTS)
        done.write_text(REQUIREMENTS.read_text())
    return DIRECTORY / "bin" / name


def scan(name: str, *arguments: str | Path, seconds: float = 300) -> str:
    """What a scanner from PyPI prints, whatever its exit code: that says what it has found."""
    command = [program(name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False).stdout


def scan_from_beside(host: Host, *command: str, seconds: float = 300, files: tuple[Path, ...] = ()) -> str:
    """What a scanner from Debian prints on another machine, with `files` below /scanned there.

    `{host}` in the command is the address of the host.
    """
    images.ensure_from(DOCKERFILE, IMAGE, images.ensure("13"))
    address = run("docker", "container", "inspect", "--format", "{{.NetworkSettings.IPAddress}}", host.name)
    mounts = [part for file in files for part in ("--volume", f"{file.resolve()}:/scanned/{file.name}:ro")]
    whole = ["docker", "run", "--rm", *mounts, IMAGE, *(part.replace("{host}", address) for part in command)]
    return subprocess.run(whole, capture_output=True, text=True, timeout=seconds, check=False).stdout
