"""Reading files that others may have put there, and atomic writes.

After a crash a file that is written here has its old content or its new content, never a part of it.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import Any

LIMIT = 64 * 2**20  # bytes of a file that is read as a whole

_UNFINISHED = ".new"  # suffix of the name of a file that is being written
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def sync_directory(path: Path) -> None:
    """Make the names in a directory (created, renamed, removed entries) survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unfinished(path: Path) -> Path:
    """The temporary name under which `path` is written, if only one process writes it; `sweep` removes leftovers."""
    return path.with_name(f".{path.name}{_UNFINISHED}")


def sweep(directory: Path, age: float = 0) -> None:
    """Remove the temporary files that killed processes left in a directory.

    Only files older than `age` seconds are removed. With `age` 0 no other process may be writing in the directory.
    """
    before = time.time() - age
    for path in directory.glob(f".*{_UNFINISHED}"):
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime <= before:
                path.unlink()


def write_atomically(path: Path, content: str, mode: int = 0o644, group: int = -1) -> None:
    """Replace the content of `path`; `group` is a numeric group id, -1 for the group of the process."""
    descriptor, temporary = tempfile.mkstemp(_UNFINISHED, f".{path.name}.", path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchown(file.fileno(), -1, group)
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def link_atomically(path: Path, target: str) -> None:
    """Point the symlink `path` at `target` with one rename(2): a reader sees the old target or the new one."""
    temporary = unfinished(path)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)
    sync_directory(path.parent)


class UnfitError(OSError):
    """Something that is not read, whatever it holds: no regular file, too large, or kept by another process."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(errno.EINVAL, why, str(path))


def read_bytes(path: Path, *, limit: int = LIMIT, inside: Path | None = None) -> bytes:
    """The content of a regular file of at most `limit` bytes; UnfitError, with a sentence, for anything else.

    This never waits, whatever somebody else has put there: it is looked at before it is opened, which could wait for a
    writer of a FIFO or start a device. A symbolic link is not followed; with `inside` one is whose target is inside of
    that directory.
    """
    seen = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if inside else os.O_NOFOLLOW))
    try:
        place = f"/proc/self/fd/{seen}"
        found = os.fstat(seen)
        if kind := _KINDS.get(stat.S_IFMT(found.st_mode)):
            raise UnfitError(path, f"it is {kind}, and only a regular file is read. Remove it")
        if inside is not None and not Path(place).readlink().is_relative_to(inside.resolve()):
            raise UnfitError(path, f"it is a link that leads out of {inside}. Remove it")
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except BlockingIOError:
            raise UnfitError(path, "another process keeps it (by a lease). Try again when that has ended") from None
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(seen)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(limit + 1) if found.st_size <= limit else b""
    if found.st_size > limit or len(content) > limit:
        raise UnfitError(path, f"it has more than {limit} bytes. Move it away")
    return content


def read_text(path: Path, *, limit: int = LIMIT, inside: Path | None = None, errors: str = "strict") -> str:
    """The same as text, with the line breaks of all systems as line feeds; ValueError when it is not in UTF-8.

    A byte order mark is no part of it. One of UTF-16 says that the file is in that: PowerShell writes such files.
    """
    return decoded(read_bytes(path, limit=limit, inside=inside), errors)


def decoded(content: bytes, errors: str = "strict") -> str:
    """The text of a file, as `read_text` has it."""
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    text = content.decode(encoding, errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None when the file is missing, incomplete, or not one to be read."""
    with contextlib.suppress(FileNotFoundError, UnfitError, ValueError):
        value = decode_json(read_bytes(path))
        return value if isinstance(value, dict) else None
    return None


def decode_json(text: str | bytes) -> Any:
    """The value of a JSON text; ValueError when it is none, or its parts are nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its parts are nested too deeply") from None
