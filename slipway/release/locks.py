"""Which file of a commit pins what its release is built from: beside the app, or in a directory above it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

UV = "uv.lock"
PROJECT = "pyproject.toml"
KINDS = (UV,)


def upwards(directory: str) -> Iterator[PurePosixPath]:
    """The app's directory in its repository, and those above it up to the top."""
    place = PurePosixPath(directory or ".")
    yield place
    yield from place.parents


def find(directory: str, has: Callable[[str], bool]) -> str:
    """The path of the lock file of the app in `directory`; "" without one. `has`: whether there is such a file."""
    return _nearest(directory, KINDS, has)


def project(directory: str, has: Callable[[str], bool]) -> str:
    """The path of the pyproject.toml of the app in `directory`; "" without one."""
    return _nearest(directory, (PROJECT,), has)


def _nearest(directory: str, names: tuple[str, ...], has: Callable[[str], bool]) -> str:
    places = (str(place / name) for place in upwards(directory) for name in names)
    return next(filter(has, places), "")
