"""A release becomes root's when its build has ended: from then on nobody but root can change it.

The build could do in its directory whatever it liked, so nothing in it is reached by a path, and no link is followed:
each directory is opened from the one above it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from slipway.base.errors import FailedError

_MOST_ENTRIES = 1_000_000
_DEEPEST = 100  # directories below one another

# Rights of other users that chmod(2) does not take away.
_ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")

# Where a link may lead out of the release to: the Python that it runs on, and what comes with the system.
_SYSTEM = Path("/usr")


def take(release: Path, builder: int, python: Path) -> None:
    """Make a release the engine's user's, who is root on a host: readable for everybody, writable for nobody else.

    `builder` is the number of the user who has built it, and of whom no process may run any more; `python` is what its
    virtualenv was made with. FailedError names the first thing that a release cannot have: files of other users,
    devices, sockets and pipes, links that lead out of it, and more or deeper directories than anything needs.
    """
    try:
        for link in _take(release, builder):  # now nobody can change where they lead to
            _check_link(release, link, python)
    except OSError as error:
        raise FailedError(f"The release cannot be taken over from the build ({error.strerror}).") from error


def _check_link(release: Path, link: Path, python: Path) -> None:
    try:
        place = Path(os.path.realpath(release / link, strict=True))  # which says when it cannot follow
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        place = Path(os.path.realpath(release / link))  # it leads to nothing
    if not (place.is_relative_to(release.resolve()) or place.is_relative_to(_SYSTEM) or place == python.resolve()):
        where = f"{_shown(link)} -> {_shown((release / link).readlink())}"
        raise FailedError(
            f"The release has a link that leads out of it ({where}). "
            "Remove it from the repository, or from what the build makes."
        )


def _take(release: Path, builder: int) -> list[Path]:
    """Take all of it; the links in it."""
    top = os.open(release, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        taken = _Taken(builder, os.fstat(top).st_dev)
        taken.directory(top, Path(), 0)
    finally:
        os.close(top)
    return taken.links


class _Taken:
    """What has been taken so far."""

    def __init__(self, builder: int, device: int) -> None:
        self._builder = builder
        self._device = device
        self._me, self._group = os.geteuid(), os.getegid()
        self._entries = 0
        self.links: list[Path] = []

    def directory(self, descriptor: int, place: Path, depth: int) -> None:
        found = os.fstat(descriptor)
        if depth > _DEEPEST or found.st_dev != self._device:
            raise FailedError(f"The release has directories more than {_DEEPEST} deep ({_shown(place)[:200]}).")
        self._own(descriptor, found, place, 0o755)
        with os.scandir(descriptor) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > _MOST_ENTRIES:
                    raise FailedError(f"The release has more than {_MOST_ENTRIES:,} files.")
                self._entry(descriptor, entry, place / entry.name, depth)

    def _entry(self, parent: int, entry: os.DirEntry[str], place: Path, depth: int) -> None:
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            with _opened(parent, entry.name, os.O_DIRECTORY) as descriptor:
                self.directory(descriptor, place, depth + 1)
        elif stat.S_ISLNK(found.st_mode):
            os.chown(entry.name, self._me, self._group, dir_fd=parent, follow_symlinks=False)
            self.links.append(place)
        elif not stat.S_ISREG(found.st_mode):
            raise FailedError(f"The release has {_shown(place)}, which is neither a file, a directory nor a link.")
        elif not self._is_taken(found):
            with _opened(parent, entry.name, os.O_NONBLOCK) as descriptor:
                self._own(descriptor, os.fstat(descriptor), place, 0o755 if found.st_mode & 0o100 else 0o644)

    def _is_taken(self, found: os.stat_result) -> bool:
        """Whether a file was the engine's before: one of another release, with which this one shares it."""
        return found.st_uid == self._me != self._builder and stat.S_IMODE(found.st_mode) in (0o644, 0o755)

    def _own(self, descriptor: int, found: os.stat_result, place: Path, mode: int) -> None:
        if found.st_uid != self._builder:
            raise FailedError(f"The release has {_shown(place)}, which does not belong to the user that builds it.")
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise FailedError(f"{_shown(place)} of the release was replaced while it was looked at.")
        os.fchown(descriptor, self._me, self._group)
        for name in _ACCESS_LISTS:
            with contextlib.suppress(OSError):  # there is none, or the file system has no such thing
                os.removexattr(descriptor, name)
        os.fchmod(descriptor, mode)
        if stat.S_ISREG(found.st_mode) and _is_open_for_writing(descriptor):
            raise FailedError(f"{_shown(place)} of the release is open for writing: the build has given it away.")


def _is_open_for_writing(descriptor: int) -> bool:
    """Whether any process has the file open in a way that outlasts a change of its owner."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN  # other errors: the file system has no leases
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


@contextlib.contextmanager
def _opened(parent: int, name: str, kind: int) -> Iterator[int]:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | kind, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _shown(place: Path) -> str:
    """A path in a message: such names may have any characters."""
    return os.fsencode(place).decode(errors="backslashreplace").encode("unicode_escape").decode()
