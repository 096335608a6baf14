"""Whether a release can be served: by its own Gunicorn and Uvicorn where it has them, else by those of Slipway."""

from __future__ import annotations

import re
from pathlib import Path

from slipway.base import supported
from slipway.slot import surroundings


def problem(release: Path, python: str) -> str:
    """Why a release with this version of Python cannot be served, and what to do about it; "" when it can."""
    for name, oldest in supported.SERVERS.items():
        found = version(release, name)
        wanted = supported.text(oldest)
        if found and _numbers(found) < oldest:
            return (
                f"The release has {name} {found}, and Slipway serves apps with {name} {wanted} or later. Raise it in "
                f"the lock file, or take {name} out of the dependencies: then Slipway brings it."
            )
    if python and _numbers(python) < supported.PYTHON and not version(release, "uvicorn"):
        return (
            f"The release runs with Python {python} and has no uvicorn, and the one that Slipway brings needs Python "
            f"{supported.text(supported.PYTHON)}. Add uvicorn>={supported.text(supported.SERVERS['uvicorn'])} to its "
            "dependencies, or raise its Python."
        )
    return ""


def version(release: Path, name: str) -> str:
    """The version of a package that is installed in a release, by the directory with what pip knows of it; or ""."""
    for place in surroundings.packages(release):
        for path in place.glob(f"{name}-*.dist-info"):
            return path.name.removeprefix(f"{name}-").removesuffix(".dist-info")
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
