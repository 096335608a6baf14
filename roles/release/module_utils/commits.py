"""Commits of a repository that the controller can read, and how they get to a host that cannot."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

from slipway.release import git
from slipway.release.git import Commit

CACHE = Path(".cache/repositories")  # where URLs are mirrored


class Commits:
    """A repository, by its path or URL. A path is relative to `project`, and so is the cache."""

    def __init__(self, repository: str, project: Path) -> None:
        with contextlib.chdir(project):
            self._source = git.open_source(repository, project / CACHE)

    def resolve(self, version: str, accept: str) -> Commit:
        """The commit that `version` names; the newest stable tag when it is empty."""
        return git.resolve(self._source, version or None, accept)

    def bundle(self, sha: str, tag: str | None, known: Iterable[str]) -> bytes:
        """A git bundle with a commit and its tag, without what a host has that has the commits `known`."""
        with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
            output = Path(directory) / "commits.bundle"
            git.bundle(self._source, sha, tag, known, output)
            return output.read_bytes()
