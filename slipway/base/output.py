"""What a command prints: sentences for people, or one JSON object a line for programs."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

_MARKS = {"ok": "+", "skipped": "-", "failed": "!"}


class Reporter:
    """Writes events. Whoever reads may go away at any moment (the connection drops); the work goes on."""

    def __init__(self, as_json: bool, stream: TextIO | None = None) -> None:
        self.as_json = as_json
        self.has_client = True  # until nobody reads any more
        self._stream = stream or sys.stdout

    def phase(self, name: str, outcome: str, seconds: float, message: str) -> None:
        """One phase ended; `outcome` is ok, skipped or failed."""
        event = {"event": "phase", "phase": name, "outcome": outcome, "seconds": seconds, "message": message}
        self._write(event, f"{_MARKS[outcome]} {name:<8} {seconds:6.1f} s  {message}")

    def note(self, message: str) -> None:
        self._write({"event": "note", "message": message}, f"  {message}")

    def result(self, outcome: str, message: str, detail: str = "", text: str = "", **values: Any) -> None:
        """The last event of a command. `text` is what people read in place of the message, where that differs."""
        event = {"event": "result", "outcome": outcome, "message": message, "detail": detail, **values}
        if text:
            event["text"] = text
        shown = text or (f"{detail}\n\n{message}" if detail else message)
        self._write(event, shown)

    def _write(self, event: dict[str, Any], text: str) -> None:
        try:
            print(json.dumps(event) if self.as_json else text, file=self._stream, flush=True)
        except BrokenPipeError:
            self.has_client = False
