"""What is told of an error that nobody expected: one sentence, and a file with the traceback for whoever mends it.

Neither has the error's own message, or the value of any variable: those may hold a password.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

HOST_DIRECTORY = Path("/var/log/slipway")
_KEPT = 20  # files
_NO_PLACE = "No file could be written for its traceback"


def explain(error: BaseException) -> str:
    """A sentence about an unexpected error, which names the file with its traceback; that file is written."""
    frame = _last_frame(error)
    place = f" in {Path(frame.filename).name}, line {frame.lineno}" if frame else ""
    kept = keep(error)
    where = f"Its traceback is in {kept}" if kept else _NO_PLACE
    return f"Slipway has a defect: {type(error).__name__}{place}. {where}; please report it."


def keep(error: BaseException) -> Path | None:
    """Write the traceback to a new file that only this user can read; None where that is not possible.

    The oldest files are removed.
    """
    directory = HOST_DIRECTORY if os.geteuid() == 0 else _own_directory()
    path = directory / f"crash-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in sorted(directory.glob("crash-*.txt"))[: -_KEPT + 1]:
            old.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("\n".join(lines(error)) + "\n")
    except OSError:
        return None
    return path


def lines(error: BaseException) -> Iterator[str]:
    """The traceback of an error, and of those that led to it: places and types, the first error first."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from lines(before)
        yield "which led to:"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}, line {frame.lineno}, in {frame.name}"
        yield f"    {frame.line}"
    yield type(error).__qualname__
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from lines(member)


def _last_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The deepest place in Slipway's own code, or else of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/slipway/" in frame.filename]
    return next(reversed(own or frames), None)


def _own_directory() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(state) / "slipway"
