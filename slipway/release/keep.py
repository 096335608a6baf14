"""Makes what an app keeps in its data directory, as its user. This file is the whole program (see `kept`).

The app may be at work in that directory, so nothing there is reached by a path: each directory is opened from the one
above it, and no link is followed. What is there already stays as it is.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

# An access list, as the kernel reads it: its version, and lines of kind, rights and number of a user.
_VERSION, _NOBODY = 2, 0xFFFFFFFF
_OWNER, _USER, _GROUP, _MASK, _OTHERS = 1, 2, 4, 16, 32
_OWN, _INHERITED = "system.posix_acl_access", "system.posix_acl_default"
_ALL, _READ, _ENTER, _NONE = 7, 5, 1, 0


def main(request: dict[str, Any]) -> None:
    os.umask(0o077)
    users = None if request["other"] is None else (request["owner"], request["other"])
    top = os.open(request["top"], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    if users and users[1] not in _named(top):
        os.setxattr(top, _OWN, _list([(_OWNER, _ALL), (_USER, _ENTER, users[1]), (_GROUP, _READ), (_MASK, _READ)]))
    below = _directory(top, request["below"])
    if users and users[1] not in _named(below):
        _share(below, users)
    for place in request["places"]:
        *above, name = place["name"].split("/")
        parent = below
        for part in above:
            parent = _directory(parent, part)
        if not _is_there(parent, name):
            _make(parent, name, place)


def _make(parent: int, name: str, place: dict[str, Any]) -> None:
    """Under another name at first: what was not copied to its end is copied again."""
    unfinished = f".{name}.new"
    if _is_there(parent, unfinished):
        _remove(parent, unfinished)
    if place["source"]:
        _copy(Path(place["source"]).resolve(), parent, unfinished)
    elif place["is_directory"]:
        os.mkdir(unfinished, 0o777, dir_fd=parent)  # as below: relative to a directory that is open
    else:
        return  # a file that the app makes
    os.rename(unfinished, name, src_dir_fd=parent, dst_dir_fd=parent)


def _copy(source: Path, parent: int, name: str) -> None:
    if source.is_symlink():
        os.symlink(source.readlink(), name, dir_fd=parent)
    elif source.is_dir():
        os.mkdir(name, 0o777, dir_fd=parent)
        inside = _directory(parent, name)
        for entry in sorted(source.iterdir()):
            _copy(entry, inside, entry.name)
        os.close(inside)
    else:
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=parent)
        with source.open("rb") as file, os.fdopen(made, "wb") as copy:
            shutil.copyfileobj(file, copy)
            copy.flush()
            os.fsync(copy.fileno())


def _directory(parent: int, name: str) -> int:
    """A directory, opened; it is made where it is not there."""
    if not _is_there(parent, name):
        os.mkdir(name, 0o777, dir_fd=parent)
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            sys.exit(f"{name} in the data directory is a link or a file, and must be a directory. Move it away.")
        raise


def _remove(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        shutil.rmtree(name, dir_fd=parent)


def _is_there(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _share(directory: int, users: tuple[int, int]) -> None:
    """Let both users do everything here, also in what either of them makes here later."""
    both = [(_USER, _ALL, user) for user in sorted(users)]
    for kind in (_OWN, _INHERITED):
        os.setxattr(directory, kind, _list([(_OWNER, _ALL), *both, (_GROUP, _NONE), (_MASK, _ALL)]))


def _list(lines: list[tuple[int, ...]]) -> bytes:
    whole = [*lines, (_OTHERS, _NONE)]
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *(*line, _NOBODY)[:3]) for line in whole)


def _named(directory: int) -> set[int]:
    """The users whom the access list of a directory names."""
    try:
        found = os.getxattr(directory, _OWN)[4:]
    except OSError:
        return set()
    return {user for kind, _, user in struct.iter_unpack("<HHI", found) if kind == _USER}


if __name__ == "__main__":
    main(json.load(sys.stdin))
