"""What a build does as the user without rights, in its unit: the source of a commit, its packages and its bytecode."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slipway.base import files, process
from slipway.base.errors import FailedError
from slipway.release import bytecode, dynamic, explain, git, history, lockfile, source


@dataclass(frozen=True)
class Work:
    """What to build, and with what. Paths are texts, as this comes over a pipe.

    `donor` is another release with the same packages, whose virtualenv is in this one already; "" without one.
    """

    repository: str
    sha: str
    tag: str | None
    directory: str
    module: str
    user: str
    uv: str
    cache: str
    python: str
    donor: str = ""
    build_packages: Sequence[str] = ()
    build_env: Mapping[str, str] = field(default_factory=dict)


def main(answer: int) -> None:
    """Fill the current directory as the request on standard input says; the answer is written to a file descriptor."""
    try:
        work = Work(**json.load(sys.stdin))
        python = fill(work, Path.cwd())
        said: dict[str, Any] = {"python": python, "seen": asdict(history.look(Path.cwd(), python, work.directory))}
    except files.UnfitError as error:
        said = {"failed": f"{error.filename} cannot be read ({error.strerror}).", "detail": ""}
    except FailedError as error:
        said = {"failed": str(error), "detail": error.detail}
    with os.fdopen(answer, "w") as file:
        json.dump(said, file)


def fill(work: Work, release: Path) -> str:
    """Put source and packages of a release into its directory; the version of its Python, "" if that does not run."""
    repository = git.Repository(Path(work.repository), work.user, Path(work.cache))
    source.unpack(repository, work.sha, release, work.user, work.module, work.directory)
    told = dynamic.variables(release, source.project(release, work.directory), work.tag, work.sha)
    _install(work, release, told)
    if absent := source.not_installed(release):
        raise FailedError(absent)
    # The service cannot write below its release, so its own modules are compiled here.
    return bytecode.make(release, Path(work.donor) if work.donor else None, work.user)


def _install(work: Work, release: Path, told: Mapping[str, str]) -> None:
    """Install exactly what the lock file pins, with hashes checked, into a virtualenv that can be renamed.

    `told` are variables for the build of the project itself. Files of uv's cache are copied: the cache is the build's.
    """
    environment = {
        "HOME": work.cache,
        "UV_CACHE_DIR": work.cache,
        "UV_LINK_MODE": "copy",
        "UV_PYTHON": work.python,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_CONFIG": "1",
        "UV_PROJECT_ENVIRONMENT": str(release / ".venv"),
        **told,
        **work.build_env,
    }
    uv = [work.uv, "--no-progress", "--quiet"]
    sync = [*uv, "sync", "--frozen", "--no-default-groups", "--no-editable"]
    commands: list[list[str | Path]] = [[*sync, *lockfile.options(release, work.build_packages, work.directory)]]
    if not work.donor:
        commands[0].append("--compile-bytecode")
        commands.insert(0, [*uv, "venv", "--relocatable", "--no-project", release / ".venv"])
    for command in commands:  # in the app's directory, of which uv finds the project, and a workspace above it
        directory = release / work.directory
        result = process.run(command, user=work.user, environment=environment, directory=directory)
        if result.returncode != 0:
            what = "uv sync" if "sync" in command else "The virtualenv"
            reason = explain.sentence(result.stderr)
            detail = "" if explain.asks_git(result.stderr) else process.tail(result.stderr)
            raise FailedError(f"{what} failed: {reason}" if reason else f"{what} failed.", detail)


if __name__ == "__main__":
    main(int(sys.argv[1]))
