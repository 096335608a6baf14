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
    """A repository, by its path or URL, from which an environment deploys that accepts `accept`.

    A path is relative to `project`, and so is the cache.
    """

    def __init__(self, repository: str, project: Path, accept: str = "signed-tags") -> None:
        with contextlib.chdir(project):
            git.keep_to_owner((project / CACHE).parent)
            self._source = git.open_source(repository, project / CACHE, accept)

    def resolve(self, version: str, accept: str) -> Commit:
        """The commit that `version` names; the newest stable tag when it is empty."""
        return git.resolve(self._source, version or None, accept)

    def bundle(self, sha: str, tag: str | None, known: Iterable[str]) -> bytes:
        """A git bundle with a commit and its tag, without what a host has that has the commits `known`."""
        with tempfile.TemporaryFile() as file:  # without a name, so that none is left behind when this is killed
            git.write_bundle(self._source, sha, tag, known, file)
            file.seek(0)
            return file.read()
