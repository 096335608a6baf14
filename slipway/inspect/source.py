"""The repository that is looked at: a directory as it is, or a clone of a URL, of which nothing is run."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.base.errors import FailedError, RefusedError
from slipway.inspect.tree import git

_SECONDS = 600
_MOST = 23  # characters of a name, which is also that of users and of sockets
_TAG = re.compile(r"^v?\d+\.\d+")


@dataclass(frozen=True)
class Source:
    root: Path
    name: str
    year: int
    has_versions: bool


@contextmanager
def opened(repository: str) -> Iterator[Source]:
    """RefusedError when there is nothing, FailedError when a clone fails."""
    name = _name(repository)
    if Path(repository).is_dir() and not _is_bare(Path(repository)):
        yield _source(Path(repository), name)
        return
    if not Path(repository).is_dir() and not re.match(r"^[\w.+-]+://|^[\w.-]+@[\w.-]+:", repository):
        raise RefusedError(f"{repository} is neither a directory nor the URL of a repository.")
    with tempfile.TemporaryDirectory(prefix="slipway-inspect-") as folder:
        target = Path(folder) / "clone"
        _clone(repository, target)
        yield _source(target, name)


def _source(root: Path, name: str) -> Source:
    date = git(root, "-c", "safe.directory=*", "log", "-1", "--format=%cd", "--date=format:%Y") or ""
    tags = git(root, "-c", "safe.directory=*", "tag", "--list") or ""
    return Source(root, name, int(date) if date.strip().isdigit() else 0, any(_TAG.match(tag) for tag in tags.split()))


def _is_bare(path: Path) -> bool:
    return (path / "HEAD").is_file() and (path / "objects").is_dir()


def _name(repository: str) -> str:
    """A name that an app may have, of the last part of the address."""
    last = repository.rstrip("/").removesuffix("/.git").removesuffix(".git").rpartition("/")[2].rpartition(":")[2]
    last = Path.cwd().name if last in ("", ".") else last
    name = re.sub(r"[^a-z0-9-]+", "-", last.lower()).strip("-")
    name = re.sub(r"^[^a-z]+", "", name)
    while len(name) > _MOST and "-" in name:
        name = name.rpartition("-")[0]
    return name[:_MOST].strip("-") or "app"


def _clone(repository: str, target: Path) -> None:
    # No hooks, filters or submodules of the repository or of the user: only its files.
    options = [
        *("core.hooksPath=/dev/null", "core.symlinks=true", "protocol.ext.allow=never"),
        *("filter.lfs.smudge=", "filter.lfs.process=", "filter.lfs.required=false"),
    ]
    command = [
        *("git", *(word for option in options for word in ("-c", option)), "clone", "--quiet", "--filter=blob:none"),
        *("--no-single-branch", "--template=", "--no-recurse-submodules", "--", repository, str(target)),
    ]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"The repository could not be cloned within {_SECONDS} s.") from error
    if done.returncode:
        raise FailedError("The repository could not be cloned.", re.sub(r"://[^/@\s]+@", "://", done.stderr.strip()))
