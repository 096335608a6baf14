"""A git repository with tagged copies of the work tree, for the demo and the tests. A clone may have no tags."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

_IDENTITY = ("-c", "user.name=Slipway", "-c", "user.email=slipway@example.com", "-c", "commit.gpgsign=false")


def git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *_IDENTITY, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def tag(repository: Path, name: str, *overlays: Path) -> str:
    """Commit the work tree, with `overlays` copied over it, and tag it; the commit's hash."""
    update(repository, *overlays)
    git(repository, "tag", "--annotate", name, "--message", name)
    return git(repository, "rev-parse", "HEAD")


def update(repository: Path, *overlays: Path) -> bool:
    """Commit the current work tree; False if nothing was changed since the last commit."""
    if not (repository / ".git").is_dir():
        repository.mkdir(parents=True, exist_ok=True)
        git(repository, "init", "--quiet", "--initial-branch=main")
    for entry in repository.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    listed = git(PROJECT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file():  # deleted files are still listed
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, repository / name)
    for overlay in overlays:
        shutil.copytree(overlay, repository, dirs_exist_ok=True)
    git(repository, "add", "--all", "--force")
    if not git(repository, "status", "--porcelain"):
        return False
    git(repository, "commit", "--quiet", "--message", "The work tree")
    return True
