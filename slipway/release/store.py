"""The release directories of an app: listing and pruning."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
from collections.abc import Collection, Sequence
from pathlib import Path

from slipway.base import files, process
from slipway.base.errors import FailedError
from slipway.base.settings import Settings
from slipway.records import journal, manifest
from slipway.release import takeover
from slipway.slot import background, slots

PARTIAL = ".partial"
BUNDLES = "incoming-*.bundle"  # received bundles; a command that was killed leaves one behind


def complete(settings: Settings) -> dict[str, manifest.Manifest]:
    """The manifests of the complete releases on this host, by name."""
    found = {}
    for path in sorted(settings.releases.iterdir()) if settings.releases.is_dir() else []:
        if path.suffix == PARTIAL or path.is_symlink():
            continue
        if (item := manifest.read(path)) is not None:
            found[path.name] = item
    return found


def to_prune(present: Collection[str], order: Sequence[str], keep: int, protected: Collection[str]) -> list[str]:
    """Which of the `present` releases to delete so that `keep` stay, those with the oldest deploy first.

    `order` has the oldest deploy first. A release that was never deployed successfully counts as the oldest.
    `protected` releases (live, previous, target) are never deleted, but count towards `keep`.
    """
    age = {name: position for position, name in enumerate(order)}
    oldest_first = sorted(present, key=lambda name: (age.get(name, -1), name))
    excess = max(0, len(oldest_first) - keep)
    return [name for name in oldest_first if name not in protected][:excess]


def in_use(settings: Settings) -> set[str]:
    """The names of the releases in the slots, whatever state they are in; one of them may be serving."""
    return {name for slot in slots.NAMES if (name := slots.release_in(settings, slot))}


def incomplete(settings: Settings) -> list[Path]:
    """What an interrupted stage or prune left behind: under a name of its own, or not complete, and in no slot."""
    if not settings.releases.is_dir():
        return []
    used = in_use(settings)
    return sorted(
        path
        for path in settings.releases.iterdir()
        if path.name not in used
        and (path.is_symlink() or path.suffix == PARTIAL or (path.is_dir() and not (path / manifest.COMPLETE).exists()))
    )


def sweep_bundles(settings: Settings) -> list[str]:
    """Delete bundles that no running command uses; their names."""
    gone = [path for path in settings.root.glob(BUNDLES) if not _is_read(path)]
    for path in gone:
        path.unlink(missing_ok=True)
    return [path.name for path in gone]


def _is_read(bundle: Path) -> bool:
    """Whether a running command still uses a bundle: it holds a lock on it, which ends with its process."""
    try:
        with bundle.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass  # deleted meanwhile by its command
    return False


def delete(path: Path) -> None:
    """Delete a release, if it is there. `.complete` is removed first: after a crash none lacks files and has that."""
    if path.is_symlink():
        path.unlink()
        return
    if not path.exists():
        return
    with contextlib.suppress(OSError):  # a build may have made a directory of that name
        (path / manifest.COMPLETE).unlink()
    files.sync_directory(path)
    # A build may have made more directories below one another than a recursion can follow.
    done = process.run(["rm", "--recursive", "--force", "--one-file-system", "--", path])
    if done.returncode != 0:
        raise FailedError(f"{path} cannot be deleted.", process.tail(done.stderr))


def adopt(settings: Settings) -> None:
    """Make releases root's that an earlier version of Slipway has built, and left to the user who builds."""
    builder = pwd.getpwnam(settings.build_user).pw_uid
    for name in complete(settings):
        place = settings.release(name)
        if place.lstat().st_uid == builder != os.geteuid():
            with contextlib.suppress(FailedError):  # it does not fit then, and is built again when it is wanted
                takeover.take(place, builder, settings.python)


def alone(settings: Settings) -> tuple[str, ...]:
    """Properties of a unit that show it no other app's files beside those of this one."""
    apps = settings.root.parent
    if apps == Path("/"):
        return ()
    return (f"TemporaryFileSystem={apps}:ro", f"BindReadOnlyPaths={settings.root}")


def prune(settings: Settings, target: str | None = None) -> list[str]:
    """Delete releases beyond `keep_releases`, and incomplete ones; the names of what was deleted."""
    entries = journal.read(settings.journal)
    live = slots.live_release(settings)
    before = journal.previous(entries, live) if live else None
    running = background.releases_in_use(settings)
    protected = (
        in_use(settings) | running | {name for name in (live, before.release if before else None, target) if name}
    )
    order = [entry.release for entry in journal.deployed(entries)]
    doomed = to_prune(complete(settings), order, settings.keep_releases, protected)
    for name in doomed:
        delete(settings.release(name))
    for path in incomplete(settings):
        delete(path)
        doomed.append(path.name)
    return [*doomed, *sweep_bundles(settings)]
