"""Atomic writes: after a crash a file has its old content or its new content, never a part of it."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

_UNFINISHED = ".new"  # suffix of the name of a file that is being written


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


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None when the file is missing, empty or incomplete."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        value = json.loads(path.read_text())
        return value if isinstance(value, dict) else None
    return None
