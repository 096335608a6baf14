"""Which file of a commit pins what its release is built from: beside the app, or in a directory above it."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from slipway.base import repository
from slipway.base.repository import LOCKS, PIPENV, POETRY, PROJECT, PYLOCK, UNREAD, UV
from slipway.release import requirements


def upwards(directory: str) -> Iterator[PurePosixPath]:
    """The app's directory in its repository, and those above it up to the top."""
    place = PurePosixPath(directory or ".")
    yield place
    yield from place.parents


def find(directory: str, has: Callable[[str], bool], named: str = "") -> str:
    """The path of the lock file of the app in `directory`; "" without one. `has`: whether there is such a file.

    `named` is the one to take. Without any lock file it is the pyproject.toml, which pins nothing.
    """
    return _nearest(directory, (named,) if named else LOCKS, has) or (
        "" if named else _nearest(directory, (PROJECT,), has)
    )


def project(directory: str, has: Callable[[str], bool]) -> str:
    """The path of the pyproject.toml of the app in `directory`; "" without one."""
    return _nearest(directory, (PROJECT,), has)


def kind(path: str) -> str:
    """Of which of the kinds a lock file is: UV, POETRY, PYLOCK, PIPENV, PROJECT, or "" of a file of requirements."""
    name = posixpath.basename(path)
    if name.startswith("pylock.") and name.endswith(".toml"):
        return PYLOCK
    return name if name in (UV, POETRY, PIPENV, PROJECT) else ""


def cure(path: str) -> str:
    """What makes a lock file anew, as a sentence."""
    directory, name = posixpath.split(path)
    commands = {
        UV: "uv lock",
        POETRY: "poetry lock",
        PYLOCK: f"uv export --format pylock.toml -o {name}",
        PIPENV: "pipenv lock",
        PROJECT: "uv lock",
    }
    pinned = f"uv pip compile {name} --universal --generate-hashes -o requirements.lock"
    where = f" in {directory}" if directory else ""
    return f"Type `{commands.get(kind(path), pinned)}`{where}, and commit what it writes."


def unread(directory: str, has: Callable[[str], bool]) -> str:
    """What to do about a file that says what an app needs, and that is not read; a sentence, or "" without one."""
    path = _nearest(directory, tuple(UNREAD), has)
    return repository.unread(path) if path else ""


def inputs(lock: str, project: str, text: Callable[[str], str]) -> list[str]:
    """The files that say what is installed, by a lock file and the project's; "" for none. `text` reads one."""
    if not kind(lock) and lock:
        return sorted(requirements.files(lock, text))
    return sorted({lock, *(() if kind(lock) == UV else (project,))} - {""})


def digest(lock: str, project: str, text: Callable[[str], str], chosen: Sequence[object] = ()) -> str:
    """The SHA-256 digest, in hex, of all that decides which packages are installed; `chosen` are settings."""
    read = [(path, text(path)) for path in inputs(lock, project, text)]
    return hashlib.sha256(json.dumps([lock, project, read, chosen]).encode()).hexdigest()


def _nearest(directory: str, names: tuple[str, ...], has: Callable[[str], bool]) -> str:
    places = (str(place / name) for place in upwards(directory) for name in names)
    return next(filter(has, places), "")


__all__ = [
    "PIPENV",
    "POETRY",
    "PROJECT",
    "PYLOCK",
    "UV",
    "cure",
    "digest",
    "find",
    "inputs",
    "kind",
    "project",
    "unread",
    "upwards",
]
