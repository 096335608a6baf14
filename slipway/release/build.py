"""Building a release: a directory with the source of a commit, its virtualenv and a manifest."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from slipway.base import files, process
from slipway.base.errors import FailedError, RefusedError
from slipway.base.settings import Settings
from slipway.records import journal, manifest
from slipway.release import bytecode, dynamic, explain, git, source, store
from slipway.slot import slots

STANDARD_INPUT = Path("-")

# Lists the revisions with the release's own alembic. Runs in the release's virtualenv, without its env.py.
_LIST_REVISIONS = """
import json
from alembic.config import Config
from alembic.script import ScriptDirectory
script = ScriptDirectory.from_config(Config("alembic.ini"))
revisions = [
    {
        "revision": r.revision,
        "message": (r.doc or "").strip(),
        "oldest_compatible": getattr(r.module, "oldest_compatible", None),
    }
    for r in script.walk_revisions()
]
print(json.dumps({"heads": list(script.get_heads()), "revisions": revisions[::-1]}))
"""


def repository(settings: Settings) -> git.Repository:
    """The host's mirror of the app's repository, used as the build user."""
    return git.Repository(settings.repository, settings.build_user, settings.uv_cache)


def check_space(settings: Settings) -> None:
    """RefusedError when the file system of the releases has too little space or too few inodes left."""
    place = settings.releases  # may be a file system of its own
    usage = os.statvfs(place)
    free_mb = usage.f_bavail * usage.f_frsize // 2**20
    if free_mb < settings.min_free_mb:
        raise RefusedError(
            f"{place} has {free_mb} MB free, but a release needs {settings.min_free_mb} MB ('min_free_mb'). "
            f"Free some space, or lower keep_releases and run `slipway prune {settings.app}`."
        )
    # Some file systems (btrfs) have no fixed number of inodes and say 0.
    if usage.f_files and usage.f_favail < settings.min_free_inodes:
        raise RefusedError(
            f"{place} has {usage.f_favail} inodes free, but a release needs {settings.min_free_inodes} "
            f"('min_free_inodes'). Lower keep_releases and run `slipway prune {settings.app}`."
        )


@contextlib.contextmanager
def incoming(settings: Settings, bundle: Path) -> Iterator[Path]:
    """A temporary copy of a bundle (`-` is standard input) that the build user can read.

    The bundle is read completely before anything else, as the sender would block on a pipe that is not read.
    """
    if bundle != STANDARD_INPUT and not bundle.is_file():
        raise RefusedError(f"There is no bundle at {bundle}.")
    settings.root.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=settings.root, prefix="incoming-", suffix=".bundle") as copy:
        fcntl.flock(copy, fcntl.LOCK_EX)  # held until this process ends: prune does not delete a locked bundle
        if bundle == STANDARD_INPUT:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        else:
            with bundle.open("rb") as file:
                shutil.copyfileobj(file, copy)
        copy.flush()
        shutil.chown(copy.name, settings.build_user, settings.build_user)
        yield Path(copy.name)


def has_commit(settings: Settings, sha: str, tag: str | None) -> bool:
    """Whether the host's mirror has a commit, and the tag names that commit there."""
    mirror = repository(settings)
    return mirror.has(sha) and (tag is None or mirror.commit(f"refs/tags/{tag}") == sha)


def obtain(settings: Settings, sha: str, tag: str | None, bundle: Path | None) -> None:
    """Make sure that the mirror has a commit and its tag, and take them from the bundle if one was sent.

    RefusedError when they are neither in the mirror nor in the bundle.
    """
    if bundle is not None:
        receive(settings, bundle, sha)
    if not has_commit(settings, sha, tag):
        raise RefusedError(f"{tag or 'The commit'} ({sha[:12]}) is not on this host; pass it with --bundle.")


def receive(settings: Settings, bundle: Path, sha: str) -> None:
    """Fetch a commit from a bundle into the mirror; FailedError when the bundle is damaged or lacks the commit."""
    mirror = repository(settings)
    mirror.fetch(bundle)
    if not mirror.has(sha):
        raise FailedError(f"The bundle does not contain commit {sha[:12]}.")


def build(settings: Settings, name: str, tag: str | None, sha: str) -> manifest.Manifest:
    """Build the release directory `name` unless it is complete already; its manifest.

    It is built under another name and renamed when it is finished; `.complete` is written last. A failed build is
    removed.
    """
    final = settings.release(name)
    if (present := manifest.read(final)) is not None:
        return present
    if name == slots.live_release(settings):
        raise FailedError(f"The manifest of {final} cannot be read, and this release is live. Deploy another version.")
    partial = final.with_name(f"{name}{store.PARTIAL}")
    for leftover in (partial, final):
        if leftover.exists():
            store.delete(leftover)
    try:
        partial.mkdir(mode=0o755)
        shutil.chown(partial, settings.build_user, settings.build_user)
        source.unpack(repository(settings), sha, partial, settings.build_user, settings.module)
        told = dynamic.variables(partial, source.project(partial), tag, sha)
        python = _install(settings, partial, told)
        made = _describe(settings, name, tag, sha, partial, python)
        files.write_atomically(partial / manifest.NAME, manifest.dump(made))
        process.run(["sync", "--file-system", settings.releases])
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    files.sync_directory(settings.releases)
    files.write_atomically(final / manifest.COMPLETE, "")
    return made


def _install(settings: Settings, release: Path, told: Mapping[str, str]) -> str:
    """Install exactly what the lock file pins, with hashes checked, into a virtualenv that can be renamed.

    `told` are variables for the build of the project itself. Returns the version of its Python; "" if that does not
    run.
    """
    environment = {
        "HOME": str(settings.uv_cache),
        "UV_CACHE_DIR": str(settings.uv_cache),
        "UV_PYTHON": str(settings.python),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_CONFIG": "1",
        **told,
        **settings.build_env,
    }
    uv = ["nice", "-n", "10", str(settings.uv), "--no-progress", "--quiet"]  # the live release comes first
    sync = [*uv, "sync", "--frozen", "--no-default-groups", "--no-editable"]
    donor = _same_packages(settings, release)
    if donor is not None:
        # Copied as hard links, as uv does from its cache. Then uv sync has nothing left to install or to compile.
        begin = ["cp", "--archive", "--link", str(donor / ".venv"), ".venv"]
    else:
        begin = [*uv, "venv", "--relocatable", ".venv"]
        sync.append("--compile-bytecode")
    for command in (begin, sync):
        result = process.run(command, user=settings.build_user, environment=environment, directory=release)
        if result.returncode != 0:
            what = "uv sync" if command is sync else "The virtualenv"
            reason = explain.sentence(result.stderr)
            detail = "" if explain.asks_git(result.stderr) else process.tail(result.stderr)
            raise FailedError(f"{what} failed: {reason}" if reason else f"{what} failed.", detail)
    if absent := source.not_installed(release):
        raise FailedError(absent)
    # The service cannot write below its release, so its own modules are compiled here. Files that uv or the archive
    # left writable for others (such as .venv/.lock) are made read-only for them.
    python = bytecode.make(release, donor, settings.build_user)
    close = ["find", ".", "-perm", "/022", "-not", "-type", "l", "-exec", "chmod", "go-w", "{}", "+"]
    process.run(close, user=settings.build_user, directory=release)
    return python


def _same_packages(settings: Settings, release: Path) -> Path | None:
    """A release on this host with the same lock file, and so with the same packages; None if there is none."""
    digest = _digest(release)
    for name, other in store.complete(settings).items():
        if other.lock_sha256 == digest and (settings.release(name) / ".venv").is_dir():
            return settings.release(name)
    return None


def _digest(release: Path) -> str:
    return hashlib.sha256((release / "uv.lock").read_bytes()).hexdigest()


def _describe(
    settings: Settings, name: str, tag: str | None, sha: str, release: Path, python: str
) -> manifest.Manifest:
    heads: list[str] = []
    revisions: list[manifest.Revision] | None = None
    if (release / "alembic.ini").is_file():
        from slipway.release import history  # here, as a rollback does not need it

        revisions = history.read(release, python)
        if revisions is not None:
            heads = [revisions[-1].revision]
        else:
            heads, revisions = _ask_alembic(settings, release)
        if len(heads) > 1:
            raise FailedError(f"The migrations have {len(heads)} heads ({', '.join(heads)}); run `alembic merge`.")
        names = {item.revision for item in revisions}
        if wrong := [item for item in revisions if item.oldest_compatible and item.oldest_compatible not in names]:
            raise FailedError(
                f"Migration {wrong[0].revision} declares oldest_compatible = {wrong[0].oldest_compatible!r}, "
                "which is not a revision of this release."
            )
    return manifest.Manifest(
        release=name,
        tag=tag,
        sha=sha,
        subject=repository(settings).subject(sha),
        python=python,
        lock_sha256=_digest(release),
        built_at=journal.now(),
        heads=heads,
        revisions=revisions,
    )


def _ask_alembic(settings: Settings, release: Path) -> tuple[list[str], list[manifest.Revision]]:
    """The heads and the revisions of a release, oldest first, listed by alembic."""
    command = [".venv/bin/python", "-c", _LIST_REVISIONS]
    result = process.run(command, user=settings.build_user, directory=release)
    if result.returncode != 0:
        raise FailedError("alembic cannot read the release's migrations.", process.tail(result.stderr))
    listed = json.loads(result.stdout)
    return listed["heads"], [manifest.Revision(**item) for item in listed["revisions"]]
