"""The output of a command: text for people, or one JSON object per line for programs."""

from __future__ import annotations

import json
import re
import select
import sys
import time
from typing import Any, TextIO

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MARKS = {"ok": "+", "skipped": "-", "failed": "!"}


def plain(text: str) -> str:
    """A text for a terminal, without what a terminal would obey: parts of it may come from an app or a repository."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Reporter:
    """Writes events. The client that reads them may disconnect at any moment; the work goes on."""

    def __init__(self, as_json: bool, stream: TextIO | None = None) -> None:
        self.as_json = as_json
        self._stream = stream or sys.stdout
        self._disconnected = False

    @property
    def has_client(self) -> bool:
        """Whether a client still reads the output."""
        self._disconnected = self._disconnected or _is_closed(self._stream)
        return not self._disconnected

    def has_client_after(self, message: str, seconds: float) -> bool:
        """Write a note, and return whether the client is still connected `seconds` later.

        The output may pass through several programs (systemd-run, ssh). Then a closed connection is only noticed some
        time after something was written to it.
        """
        self.note(message)
        deadline = time.monotonic() + seconds
        while self.has_client and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.has_client

    def phase(self, name: str, outcome: str, seconds: float, message: str) -> None:
        """Report that a phase has ended; `outcome` is ok, skipped or failed."""
        event = {"event": "phase", "phase": name, "outcome": outcome, "seconds": seconds, "message": message}
        self._write(event, f"{_MARKS[outcome]} {name:<8} {seconds:6.1f} s  {message}")

    def note(self, message: str) -> None:
        self._write({"event": "note", "message": message}, f"  {message}")

    def result(self, outcome: str, message: str, detail: str = "", text: str = "", **values: Any) -> None:
        """Write the last event of a command. `text`, if given, is shown to people in place of the message."""
        event = {"event": "result", "outcome": outcome, "message": message, "detail": detail, **values}
        if text:
            event["text"] = text
        shown = text or (f"{detail}\n\n{message}" if detail else message)
        self._write(event, shown)

    def _write(self, event: dict[str, Any], text: str) -> None:
        try:
            print(json.dumps(event) if self.as_json else plain(text), file=self._stream, flush=True)
        except BrokenPipeError:
            self._disconnected = True


def _is_closed(stream: TextIO) -> bool:
    """Whether the other end of a pipe or socket was closed, checked without writing to it."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stream in memory has no descriptor
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
