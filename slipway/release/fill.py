"""What a build does as the user without rights, in its unit: the source of a commit, its packages and its bytecode."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slipway.base import files
from slipway.base.errors import FailedError
from slipway.release import bytecode, dynamic, extras, git, history, modules, packages, server, source
from slipway.release.work import Work


def main(answer: int) -> None:
    """Fill the current directory as the request on standard input says; the answer is written to a file descriptor."""
    try:
        work = Work(**json.load(sys.stdin))
        python, record = fill(work, Path.cwd())
        seen = asdict(history.look(Path.cwd(), python, work.directory))
        said: dict[str, Any] = {"python": python, "seen": seen, "record": record}
        said["module"] = modules.settle(work, Path.cwd())
    except files.UnfitError as error:
        said = {"failed": f"{error.filename} cannot be read ({error.strerror}).", "detail": ""}
    except FailedError as error:
        said = {"failed": str(error), "detail": error.detail}
    with os.fdopen(answer, "w") as file:
        json.dump(said, file)


def fill(work: Work, release: Path) -> tuple[str, str]:
    """Put source and packages of a release into its directory.

    The version of its Python, "" if that does not run, and what was installed of packages that nobody has pinned.
    """
    repository = git.Repository(Path(work.repository), work.user, Path(work.cache))
    source.unpack(repository, work.sha, release, work.user, work.module, work.directory, work.lock)
    modules.settle(work, release)  # before the time that packages take
    told = dynamic.variables(release, source.project(release, work.directory), work.tag, work.sha)
    installer = packages.Installer(work, release, told)
    installer.install()
    extras.fetch(work, release)
    extras.run(work, release, told)
    # The service cannot write below its release, so its own modules are compiled here.
    python = bytecode.make(release, Path(work.donor) if work.donor else None, work.user)
    if problem := server.problem(release, python):
        raise FailedError(problem)
    return python, installer.record


if __name__ == "__main__":
    main(int(sys.argv[1]))
