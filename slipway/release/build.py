"""Building a release: a directory with the source of a commit, its virtualenv and a manifest."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pwd
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import slipway
from slipway.base import confined, files, process
from slipway.base.errors import FailedError, RefusedError
from slipway.base.settings import MODULE, Settings
from slipway.records import journal, manifest
from slipway.release import fit, git, inside, kept, modules, records, source, store, takeover
from slipway.release.work import Work
from slipway.slot import envfile, slots

STANDARD_INPUT = Path("-")
# What the build user runs of the engine: `fill`, with the place to import it from, and a file descriptor.
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from slipway.release import fill; fill.main(int(sys.argv[2]))"


_MESSAGE, _DETAIL = 2000, 2**16  # characters of what a build says of its failure
_LEFT = 0.5  # the share of `min_free_mb` and `min_free_inodes` that a build leaves to others
_PYTHON = re.compile(r"\d+\.\d+\.\d+\S{0,9}")  # its version


class _FullError(FailedError):
    """A build has used the disk up."""


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
        return _served_as_set(settings, present)
    box = final.with_name(f"{name}{store.PARTIAL}")
    partial = box / "release"
    try:
        made = _make_until_it_fits(settings, partial, name, tag, sha, fresh=again)
        files.write_atomically(partial / manifest.NAME, manifest.dump(made))
        files.write_atomically(partial / manifest.COMPLETE, "")
        process.run(["sync", "--file-system", settings.releases])
        _put_in_place(settings, partial, final)
    finally:
        store.delete(box)
    files.sync_directory(settings.releases)
    return made


def _served_as_set(settings: Settings, present: manifest.Manifest) -> manifest.Manifest:
    """The manifest of a release that is here already, with the module of the inventory where that has changed since."""
    release = settings.release(present.release)
    if not settings.module or settings.module == present.module:
        return present
    where, commit = f"apps.{settings.app}.module", f"Commit {present.sha[:12]}"
    if problem := modules.fault(release, settings.directory, settings.module, commit, where):
        raise FailedError(problem)
    changed = dataclasses.replace(present, module=settings.module)
    files.write_atomically(release / manifest.NAME, manifest.dump(changed))
    return changed


def _put_in_place(settings: Settings, partial: Path, final: Path) -> None:
    """Give a finished release its name, which another one may have."""
    if not final.exists():
        partial.rename(final)
    elif final.name in store.in_use(settings) or manifest.read(final) is not None:
        # Whoever still runs it goes on in the old directory. Without the new one (a power cut between the two renames)
        # the next deploy builds it.
        old = final.with_name(f"{final.name}.old{store.PARTIAL}")
        final.rename(old)
        partial.rename(final)
        store.delete(old)
    else:
        store.delete(final)
        partial.rename(final)


def _make_until_it_fits(
    settings: Settings, partial: Path, name: str, tag: str | None, sha: str, *, fresh: bool
) -> manifest.Manifest:
    """The manifest of a release in a directory that was made for it: at once, or the second time with nothing old."""
    made = _make(settings, partial, name, tag, sha, fresh=fresh)
    reason = fit.misfit(settings, made, partial)
    if reason and not fresh:
        return _make_until_it_fits(settings, partial, name, tag, sha, fresh=True)
    if reason:
        raise FailedError(f"{name} was built, but {reason}.")
    return made


def _make(settings: Settings, partial: Path, name: str, tag: str | None, sha: str, *, fresh: bool) -> manifest.Manifest:
    """Make a new directory with the source and the packages of a release, which is root's; its manifest, not written.

    Everything that the commit brings, and its packages, may run code while it is built. So that is done by a user
    without rights in a unit of its own (see `fill`), and what it has made is taken over when the unit has ended.
    `fresh`: with no file of another release, as theirs may have an owner or a mode that does not fit.
    """
    # In a box that only the build's user enters: what the build opens up in it is for nobody else.
    store.delete(partial.parent)
    partial.parent.mkdir(mode=0o710)
    shutil.chown(partial.parent, group=settings.build_user)
    partial.mkdir(mode=0o700)
    if not repository(settings).has(sha):
        raise FailedError(
            f"{tag or 'The commit'} ({sha[:12]}) is not in {settings.repository} any more, so its release cannot be "
            "built again. Deploy it with deploy.yml, which sends the commit."
        )
    identity = records.identity(settings, repository(settings), sha)
    donor = None if fresh else _same_packages(settings, identity)
    if donor is not None:
        _link_packages(settings, donor, partial)
    shutil.chown(partial, settings.build_user, settings.build_user)
    python, module, seen = _fill(settings, partial, name, tag, sha, donor, identity)
    takeover.take(partial, pwd.getpwnam(settings.build_user).pw_uid, settings.python)
    partial.parent.chmod(0o755)  # now others may look at it
    if taken := [mine for mine in (manifest.NAME, manifest.COMPLETE) if os.path.lexists(partial / mine)]:
        raise FailedError(f"The release has {taken[0]}, a name that Slipway itself uses. Give it another one.")
    kept.link(settings, partial)
    made = _describe(settings, name, tag, sha, partial, python, module, seen)
    return dataclasses.replace(made, packages=identity, built_with=fit.chosen(settings))


def _fill(
    settings: Settings, partial: Path, name: str, tag: str | None, sha: str, donor: Path | None, identity: str
) -> tuple[str, str, Mapping[str, Any]]:
    """Fill the release as the build user; its Python's version, what it serves, what was seen of its migrations."""
    work = Work(
        app=settings.app,
        repository=str(settings.repository),
        sha=sha,
        tag=tag,
        directory=settings.directory,
        module=settings.module,
        user=settings.build_user,
        uv=str(settings.uv),
        cache=str(settings.uv_cache),
        python=str(settings.python),
        donor=str(donor or ""),
        lock=settings.lock_file,
        extras=settings.extras,
        groups=settings.groups,
        allow_unpinned=settings.allow_unpinned,
        record=records.find(settings, name, identity) if settings.allow_unpinned else "",
        cutoff=records.cutoff(settings, repository(settings), sha) if settings.allow_unpinned else "",
        build_packages=settings.build_packages,
        build_env=envfile.of_builds(settings),
        commands=settings.build,
        artefacts=settings.artefacts,
    )
    unit = confined.Unit(
        f"slipway-{settings.app}_build",
        f"Build of {partial.parent.name.removesuffix(store.PARTIAL)} of {settings.app}",
        settings.build_user,
        writable=(partial, settings.uv_cache),
        properties=("Nice=10", *store.alone(settings)),  # the live release comes first
    )
    try:
        result = confined.run(
            unit,
            [sys.executable, "-ISXutf8", "-c", _PROGRAM, _engine(), str(confined.ANSWER)],
            environment={"HOME": str(settings.uv_cache)},
            directory=partial,
            given=json.dumps(asdict(work)),
            timeout=settings.build_timeout,
            watch=lambda: _watch_space(settings),
        )
    except _FullError:  # perhaps by what it has put into the cache
        process.run(["find", settings.uv_cache, "-mindepth", "1", "-delete"], user=settings.build_user)
        raise
    answer = inside.decoded(result, "The build ended without a result")
    if "failed" in answer:
        answer["failed"] = str(answer["failed"])[:_MESSAGE]
        raise FailedError(str(answer["failed"]), str(answer.get("detail") or "")[-_DETAIL:])
    if answer.get("record"):
        records.write(settings, name, identity, str(answer["record"]))
    python = str(answer.get("python"))
    module = str(answer.get("module"))
    module = module if MODULE.fullmatch(module) else ""
    return (python if _PYTHON.fullmatch(python) else ""), module, answer.get("seen") or {}


def _engine() -> str:
    """Where everybody can import the engine from: the file that it is on a host, and not its copy below /run."""
    file = Path(getattr(sys.modules["__main__"], "__file__", None) or "").parent
    return str(file if file.is_file() else Path(slipway.__file__).parents[1])


def _watch_space(settings: Settings) -> None:
    """_FullError when a build leaves too little space to the others on the file systems that it writes to."""
    for place in (settings.releases, settings.uv_cache, Path(tempfile.gettempdir())):
        usage = os.statvfs(place)
        free_mb = usage.f_bavail * usage.f_frsize // 2**20
        inodes_are_few = usage.f_files and usage.f_favail < settings.min_free_inodes * _LEFT
        if free_mb < settings.min_free_mb * _LEFT or inodes_are_few:
            raise _FullError(
                f"The build has used the disk up ({free_mb} MB and {usage.f_favail} inodes are free at {place}), so it "
                "was ended. Free some space, or look at what the build writes."
            )


def _same_packages(settings: Settings, identity: str) -> Path | None:
    """A release that was live on this host with the packages that `identity` stands for; None without one.

    A build may leave anything in what it makes. What was never live may be of somebody whose code is not wanted.
    """
    complete = store.complete(settings)
    for entry in reversed(journal.deployed(journal.read(settings.journal))):
        place = settings.release(entry.release)
        if entry.release not in complete or not (place / ".venv").is_dir() or place.lstat().st_uid != os.geteuid():
            continue
        if complete[entry.release].packages == identity:  # found from the commit, and not from what a build has made
            return place
    return None


def _link_packages(settings: Settings, donor: Path, partial: Path) -> None:
    """Put a virtualenv into a release as hard links, as the build user cannot write to root's files.

    They can delete and replace them here, as the directories are theirs. Then uv has nothing to install or to compile.
    """
    venv = partial / ".venv"
    process.run(["cp", "--archive", "--link", donor / ".venv", venv])
    (venv / ".lock").unlink(missing_ok=True)  # uv opens it for writing
    user = settings.build_user
    process.run(["find", venv, "-type", "d", "-exec", "chown", f"{user}:{user}", "{}", "+"])


def _describe(
    settings: Settings,
    name: str,
    tag: str | None,
    sha: str,
    release: Path,
    python: str,
    module: str,
    seen: Mapping[str, Any],
) -> manifest.Manifest:
    from slipway.release import migrations  # here, as a rollback does not need it

    looked = migrations.seen(seen)
    settings = dataclasses.replace(settings, module=module)  # as there is no manifest yet that says it
    found = migrations.find(settings, release, looked, slots.identity(tag, sha))
    return manifest.Manifest(
        release=name,
        tag=tag,
        sha=sha,
        subject=repository(settings).subject(sha),
        python=python,
        lock_sha256=fit.digest(release, settings.directory, settings.lock_file),
        built_at=journal.now(),
        heads=found.heads,
        revisions=found.revisions,
        version_table=found.version_table,
        setup=looked.setup,
        left_out=source.environment_files(repository(settings).tree(sha)),
        module=module,
        migrates=settings.migrates,
        alembic_at=found.at,
        data=list(settings.data),
    )
