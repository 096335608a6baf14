"""Building a release: a directory with the source of a commit, its virtualenv and a manifest."""

from __future__ import annotations

import contextlib
import fcntl
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
from slipway.release import bytecode, dynamic, explain, fit, git, lockfile, source, store
from slipway.slot import envfile, slots

STANDARD_INPUT = Path("-")
_WRONG_MODE = ["(", "-perm", "/022", "-o", "!", "-perm", "-444", "-o", "-type", "d", "!", "-perm", "-555", ")"]
_OPEN_TO_READ = ["find", ".", "!", "-type", "l", *_WRONG_MODE, "-exec", "chmod", "u+rwX,go+rX,go-w", "{}", "+"]


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


def build(settings: Settings, name: str, tag: str | None, sha: str, *, again: bool = False) -> manifest.Manifest:
    """Build the release directory `name` unless it is complete already; its manifest.

    With `again` a complete one is built anew and replaced. It is built under another name, where it does not count as
    complete, and renamed when it is finished. A failed build is removed.
    """
    final = settings.release(name)
    present = manifest.read(final)
    if present is not None and not again:
        return present
    if present is None and final.exists() and name == slots.live_release(settings):
        raise FailedError(f"The manifest of {final} cannot be read, and this release is live. Deploy another version.")
    partial = final.with_name(f"{name}{store.PARTIAL}")
    if present is None and final.exists():
        store.delete(final)
    try:
        made = _fill_until_it_fits(settings, partial, name, tag, sha, fresh=again)
        files.write_atomically(partial / manifest.NAME, manifest.dump(made))
        files.write_atomically(partial / manifest.COMPLETE, "")
        process.run(["sync", "--file-system", settings.releases])
        if final.exists():
            # Whoever still runs it goes on in the old directory. Without the new one (a power cut between the two
            # renames) the next deploy builds it.
            old = final.with_name(f"{name}.old{store.PARTIAL}")
            final.rename(old)
            partial.rename(final)
            shutil.rmtree(old)
        else:
            partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    files.sync_directory(settings.releases)
    return made


def _fill_until_it_fits(
    settings: Settings, partial: Path, name: str, tag: str | None, sha: str, *, fresh: bool
) -> manifest.Manifest:
    """The manifest of a release in a directory that was filled for it: at once, or the second time with nothing old."""
    made = _fill(settings, partial, name, tag, sha, fresh=fresh)
    reason = fit.misfit(settings, made, partial)
    if reason and not fresh:
        return _fill_until_it_fits(settings, partial, name, tag, sha, fresh=True)
    if reason:
        raise FailedError(f"{name} was built, but {reason}.")
    return made


def _fill(settings: Settings, partial: Path, name: str, tag: str | None, sha: str, *, fresh: bool) -> manifest.Manifest:
    """Make a new directory and put source and packages of a release into it; its manifest, which is not written yet.

    `fresh`: with no file of another release or of uv's cache. Theirs may have an owner or a mode that does not fit.
    """
    if partial.exists():
        store.delete(partial)
    partial.mkdir(mode=0o755)
    shutil.chown(partial, settings.build_user, settings.build_user)
    source.unpack(repository(settings), sha, partial, settings.build_user, settings.module)
    told = dynamic.variables(partial, source.project(partial), tag, sha)
    python = _install(settings, partial, told, fresh=fresh)
    return _describe(settings, name, tag, sha, partial, python)


def _install(settings: Settings, release: Path, told: Mapping[str, str], *, fresh: bool) -> str:
    """Install exactly what the lock file pins, with hashes checked, into a virtualenv that can be renamed.

    `told` are variables for the build of the project itself. Returns the version of its Python; "" if that does not
    run. `fresh`: the files are copies, and no links.
    """
    environment = {
        "HOME": str(settings.uv_cache),
        "UV_CACHE_DIR": str(settings.uv_cache),
        "UV_PYTHON": str(settings.python),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_CONFIG": "1",
        **told,
        **envfile.of_builds(settings),
    }
    uv = ["nice", "-n", "10", str(settings.uv), "--no-progress", "--quiet"]  # the live release comes first
    sync = [*uv, "sync", "--frozen", "--no-default-groups", "--no-editable"]
    sync += lockfile.options(release, settings.build_packages)
    donor = None if fresh else _same_packages(settings, release)
    if donor is not None:
        # Copied as hard links, as uv does from its cache. Then uv sync has nothing left to install or to compile.
        begin = ["cp", "--archive", "--link", str(donor / ".venv"), ".venv"]
    else:
        begin = [*uv, "venv", "--relocatable", ".venv"]
        sync += ["--compile-bytecode", *(["--link-mode", "copy"] if fresh else [])]
    for command in (begin, sync):
        result = process.run(command, user=settings.build_user, environment=environment, directory=release)
        if result.returncode != 0:
            what = "uv sync" if command is sync else "The virtualenv"
            reason = explain.sentence(result.stderr)
            detail = "" if explain.asks_git(result.stderr) else process.tail(result.stderr)
            raise FailedError(f"{what} failed: {reason}" if reason else f"{what} failed.", detail)
    if absent := source.not_installed(release):
        raise FailedError(absent)
    # The service cannot write below its release, so its own modules are compiled here. Others may read all files and
    # write none, whatever uv (.venv/.lock) or the archive has left.
    python = bytecode.make(release, donor, settings.build_user)
    process.run(_OPEN_TO_READ, user=settings.build_user, directory=release)
    return python


def _same_packages(settings: Settings, release: Path) -> Path | None:
    """A release on this host with the same lock file, and so with the same packages; None if there is none."""
    digest = fit.digest(release)
    for name, other in store.complete(settings).items():
        if other.lock_sha256 == digest and (settings.release(name) / ".venv").is_dir():
            return settings.release(name)
    return None


def _describe(
    settings: Settings, name: str, tag: str | None, sha: str, release: Path, python: str
) -> manifest.Manifest:
    from slipway.release import migrations  # here, as a rollback does not need it

    found = migrations.find(settings, release, python, slots.identity(tag, sha))
    return manifest.Manifest(
        release=name,
        tag=tag,
        sha=sha,
        subject=repository(settings).subject(sha),
        python=python,
        lock_sha256=fit.digest(release),
        built_at=journal.now(),
        heads=found.heads,
        revisions=found.revisions,
        version_table=found.version_table,
    )
