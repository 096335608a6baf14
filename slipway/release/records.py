"""What was installed in place of what a commit does not pin (`allow_unpinned`), and what a virtualenv is known by.

A record is root's, and named like its release, so that a build can only say what it has installed itself. A later
release takes over the record of one that was live with the same requirements, and a rollback that of its release.
"""

from __future__ import annotations

from slipway.base import files
from slipway.base.errors import FailedError
from slipway.base.settings import Settings
from slipway.records import journal
from slipway.release import fit, git, locks, requirements

_LONGEST = 4 * 2**20  # characters


def identity(settings: Settings, mirror: git.Repository, sha: str) -> str:
    """What stands for the packages of a commit: its lock file and what is chosen of it, and the Python, as a digest."""
    paths = {item.path for item in mirror.tree(sha) if item.kind == "blob"}
    lock = locks.find(settings.directory, paths.__contains__, settings.lock_file)
    project = locks.project(settings.directory, paths.__contains__)
    chosen = [
        settings.extras,
        settings.groups,
        str(settings.python),
        fit.python_version(settings),
        settings.build_packages,
    ]
    try:
        return locks.digest(lock, project, lambda path: mirror.text(sha, path), chosen)
    except ValueError as error:
        raise FailedError(f"{lock} cannot be read: {error}.") from None


def find(settings: Settings, name: str, identity: str) -> str:
    """What was installed for a release, or for the last live one with the same requirements; "" when nothing was."""
    deployed = [entry.release for entry in reversed(journal.deployed(journal.read(settings.journal)))]
    for release in (name, *deployed):
        try:
            text = files.read_text(settings.records / f"{release}.txt")
        except (OSError, ValueError):
            continue
        head, _, record = text.partition("\n")
        if head == f"# {identity}":
            return record
    return ""


def write(settings: Settings, name: str, identity: str, record: str) -> None:
    """Keep what was installed for a release. FailedError when that is not a list of packages with hashes."""
    try:
        plan = requirements.read("record", lambda _: record)
        loose = plan.loose or ("it includes other files" if len(plan.files) > 1 else "")
    except (ValueError, RecursionError) as error:
        loose = str(error)
    if loose or len(record) > _LONGEST:
        raise FailedError(f"What was installed is not a list of pinned packages ({loose[:100]!r}).")
    settings.records.mkdir(mode=0o755, exist_ok=True)
    files.write_atomically(settings.records / f"{name}.txt", f"# {identity}\n{record}")


def cutoff(settings: Settings, mirror: git.Repository, sha: str) -> str:
    """When a commit's requirements were last changed: what came out later is not installed, so on no host.

    Each host finds the same then, however late it builds.
    """
    paths = {item.path for item in mirror.tree(sha) if item.kind == "blob"}
    lock = locks.find(settings.directory, paths.__contains__, settings.lock_file)
    project = locks.project(settings.directory, paths.__contains__)
    names = locks.inputs(lock, project, lambda path: mirror.text(sha, path))
    return mirror.git("log", "-1", "--format=%cI", sha, "--", *names)
