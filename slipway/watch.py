"""Watch: whether a release that has just taken traffic keeps its promise, seen through nginx."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from slipway import health
from slipway.config import Settings

_PROBE_INTERVAL = 0.25
_LOST_PROBES = 3


@dataclass
class Tally:
    """Answers since the switch: the clients', and those to our own probes (not counted among the clients')."""

    requests: int = 0
    errors: int = 0
    probes: int = 0
    failed_probes: int = 0
    failed_in_a_row: int = 0
    problem: str = ""

    def probe(self, answer: health.Answer, sha: str) -> None:
        self.probes += 1
        if answer.ok and answer.sha in (None, sha):
            self.failed_in_a_row = 0
            return
        self.failed_probes += 1
        self.failed_in_a_row += 1
        self.problem = answer.problem or f"HTTP {answer.status}"
        if answer.ok:
            self.problem = f"it was answered by commit {str(answer.sha)[:12]}"

    def over_budget(self, max_error_ratio: float, min_requests: int) -> str:
        """Why the release must go; "" while it may stay."""
        if self.failed_in_a_row >= _LOST_PROBES:
            return f"{self.failed_in_a_row} health requests through nginx failed in a row ({self.problem})"
        if self.requests >= min_requests and self.errors > self.requests * max_error_ratio:
            return f"{self.errors} of {self.requests} requests were answered with a server error"
        return ""


def count_statuses(lines: list[str], health_path: str) -> tuple[int, int]:
    """(requests, server errors) in lines of the JSON access log; our health probes' path is left out."""
    requests = errors = 0
    for line in lines:
        try:
            entry = json.loads(line)
            status, path = int(entry["status"]), entry.get("path") or entry.get("uri")
        except (ValueError, KeyError, TypeError):
            continue  # torn, or not ours
        if path == health_path:
            continue
        requests += 1
        errors += status >= 500
    return requests, errors


class Tail:
    """The lines that are added to a file from now on; a rotated file is followed from its start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._offset = self._stat()
        self._rest = ""

    def _stat(self) -> tuple[int, int]:
        try:
            stat = self._path.stat()
        except OSError:
            return 0, 0
        return stat.st_ino, stat.st_size

    def lines(self) -> list[str]:
        """Whole lines since the last call."""
        inode, size = self._stat()
        if inode != self._inode or size < self._offset:
            self._inode, self._offset, self._rest = inode, 0, ""
        if inode == 0:
            return []
        with self._path.open(errors="replace") as file:
            file.seek(self._offset)
            text = self._rest + file.read()
            self._offset = file.tell()
        *whole, self._rest = text.split("\n")
        return whole


def watch(settings: Settings, sha: str) -> tuple[Tally, str]:
    """Watch for `watch_seconds`; the tally, and why the release is over its budget ("" when it is not)."""
    tally = Tally()
    log = Tail(Path(settings.access_log)) if settings.access_log else None
    deadline = time.monotonic() + settings.watch_seconds
    while True:
        if settings.watch_url:
            tally.probe(health.ask_site(settings.watch_url, settings.watch_port), sha)
        if log is not None:
            requests, errors = count_statuses(log.lines(), settings.health_path)
            tally.requests += requests
            tally.errors += errors
        if reason := tally.over_budget(settings.watch_max_error_ratio, settings.watch_min_requests):
            return tally, reason
        if time.monotonic() >= deadline:
            return tally, ""
        time.sleep(min(_PROBE_INTERVAL, max(0.0, deadline - time.monotonic())))
