"""Images of the hosts, Debian 13 and 12: built once, and again when the Dockerfile changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from hosts.container_runtime import HostError, install, run, say

DOCKERFILE = Path(__file__).with_name("Dockerfile")
SUITES = {"12": "bookworm", "13": "trixie"}
_PACKAGES = "ca-certificates"
_PULL_SECONDS = 20
_LABEL = "slipway.dockerfile"


def ensure(release: str) -> str:
    """Build the image of a Debian release ("12" or "13") if it is missing or out of date; its name."""
    if release not in SUITES:
        raise HostError(f"Debian {release} is not supported. Use one of {', '.join(SUITES)}.")
    image = f"slipway-host:{release}"
    if not _is_made_of(DOCKERFILE, image):
        _build(DOCKERFILE, image, _base(release))
    return image


def ensure_from(dockerfile: Path, image: str, base: str) -> None:
    """Build an image on another one that is there, if it is missing or its Dockerfile was changed."""
    if not _is_made_of(dockerfile, image):
        _build(dockerfile, image, base)


def _is_made_of(dockerfile: Path, image: str) -> bool:
    label = f'{{{{index .Config.Labels "{_LABEL}"}}}}'
    return run("docker", "image", "inspect", "--format", label, image, check=False) == _digest(dockerfile)


def _digest(dockerfile: Path) -> str:
    return hashlib.sha256(dockerfile.read_bytes()).hexdigest()[:16]


def _build(dockerfile: Path, image: str, base: str) -> None:
    say(f"  building {image} on {base}")
    run("docker", "build", "--quiet", "--build-arg", f"BASE={base}", "--label", f"{_LABEL}={_digest(dockerfile)}",
        "--tag", image, "--file", dockerfile, dockerfile.parent)  # fmt: skip


def _base(release: str) -> str:
    """Debian's own image if a registry has it, otherwise an image made from Debian's packages."""
    pulled, made = f"debian:{release}", f"slipway-base:{release}"
    for name in (made, pulled):
        if run("docker", "image", "inspect", "--format", "{{.Id}}", name, check=False):
            return name
    try:
        done = subprocess.run(
            ["docker", "pull", "--quiet", pulled], capture_output=True, timeout=_PULL_SECONDS, check=False
        )
        if done.returncode == 0:
            return pulled
    except subprocess.TimeoutExpired:
        say(f"  no registry answered within {_PULL_SECONDS} s")
    say(f"  {pulled} cannot be pulled; building it from Debian's packages with mmdebstrap")
    if shutil.which("mmdebstrap") is None:
        install("mmdebstrap")
    if os.geteuid() != 0:
        raise HostError(f"{pulled} cannot be pulled, and building it needs root. Run this as root, or pull it first.")
    suite = SUITES[release]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}", suite, "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as bootstrap:
        imported = subprocess.run(
            ["docker", "import", "-", made], stdin=bootstrap.stdout, capture_output=True, check=False
        )
    if bootstrap.returncode != 0 or imported.returncode != 0:
        raise HostError(f"mmdebstrap failed for Debian {release}. Run `{' '.join(command)} >/dev/null` to see why.")
    return made
