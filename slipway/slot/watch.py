"""Watching a release that has just got traffic: probes through Nginx, and errors in the access log."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from slipway.base import files
from slipway.base.settings import Settings
from slipway.records.receipt import Receipt
from slipway.slot import health

_PROBE_INTERVAL = 0.05
_LAST_STATUS = re.compile(r"\d{3}(?=\s*$)")  # none is there where Nginx has not asked the app, or the client has left
_LOST_SECONDS = 1.0  # seconds without a good answer to a probe; less may be a short delay of the database


@dataclass
class Tally:
    """Counts of answers: to the clients, and to the engine's own probes, which are not counted as clients."""

    requests: int = 0
    errors: int = 0
    probes: int = 0
    failed_probes: int = 0
    milliseconds: list[float] = field(default_factory=list)  # how long each probe took
    lost_for: float = 0.0  # seconds since the last good answer to a probe, or since the first probe was sent
    problem: str = ""
    interval: float = _PROBE_INTERVAL  # seconds between two probes
    limited: int = 0  # probes that the app only called too many
    log: tuple[int, int] | None = None  # how far the access log was read; set when the counting has ended

    def probe(self, answer: health.Answer, shas: Collection[str]) -> None:
        """Count the answer to a probe. It is good when it is ready and from one of the commits `shas`."""
        self.probes += 1
        self.milliseconds.append(round(answer.seconds * 1000, 1))
        if answer.ok and (answer.sha is None or answer.sha in shas):
            self.lost_for = 0.0
            return
        if answer.is_limited:  # it answers, and neither proves nor loses anything
            self.limited += 1
            self.problem = answer.sentence
            return
        self.failed_probes += 1
        self.lost_for += answer.seconds + (self.interval if self.lost_for else _PROBE_INTERVAL)
        self.problem = answer.sentence
        if answer.ok:
            self.problem = f"the answer came from commit {str(answer.sha)[:12]}"

    def over_budget(self, max_error_ratio: float, min_requests: int) -> str:
        """Why the release has used up its error budget; "" if it has not."""
        if self.lost_for >= _LOST_SECONDS:
            return f"health requests through Nginx failed for {self.lost_for:.1f} s ({self.problem})"
        if self.requests >= min_requests and self.errors > self.requests * max_error_ratio:
            return f"{self.errors} of {self.requests} requests were answered with a server error"
        return ""

    def added_to(self, receipt: Receipt) -> Receipt:
        """The receipt plus this tally."""
        return replace(
            receipt,
            requests=receipt.requests + self.requests,
            errors=receipt.errors + self.errors,
            probes=receipt.probes + self.probes,
            failed_probes=receipt.failed_probes + self.failed_probes,
            milliseconds=(*receipt.milliseconds, *self.milliseconds),
            log=self.log or receipt.log,
        )


def count_statuses(lines: list[str], health_path: str) -> tuple[int, int]:
    """(requests, server errors) in lines of the JSON access log, without requests to the health path.

    Only requests that Nginx passed on count: it has a status of the app for them, or its own (502, 504) for an app that
    did not accept, hung up or was silent. What Nginx answers by itself says nothing of the release, and a client can
    have as many of these answers as it likes.
    """
    asked = unquote(health_path.partition("?")[0])
    requests = errors = 0
    for line in lines:
        try:
            entry = files.decode_json(line)
            path = unquote(entry.get("path") or entry.get("uri") or "")
            # Of several, as after an internal redirect, the last one is what the client got.
            status = _LAST_STATUS.search(entry["upstream_status"])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # incomplete, or of another format
        if path == asked or status is None:
            continue
        requests += 1
        errors += status[0] >= "500"
    return requests, errors


class Tail:
    """Reads the lines that are added to a file from now on, or from `mark`. A rotated file is read from its start."""

    def __init__(self, path: Path, mark: tuple[int, int] | None = None) -> None:
        self._path = path
        self._inode, self._offset = mark or self._stat()
        self._rest = b""

    @property
    def mark(self) -> tuple[int, int]:
        """Where the last whole line ended (inode and offset), so that another Tail can continue there."""
        return self._inode, self._offset - len(self._rest)

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
            self._inode, self._offset, self._rest = inode, 0, b""
        if inode == 0:
            return []
        with self._path.open("rb") as file:  # clients send any bytes, and Nginx writes them
            file.seek(self._offset)
            data = self._rest + file.read()
            self._offset = file.tell()
        *whole, self._rest = data.split(b"\n")
        return [line.decode(errors="replace") for line in whole]


def watch(settings: Settings, sha: str, log: tuple[int, int] | None) -> tuple[Tally, str]:
    """Watch for `watch_seconds`; the tally, and why the release is over its error budget ("" if it is not).

    `log` is how far the access log was counted before; with None it is counted from now on.
    """
    tally = Tally(interval=max(_PROBE_INTERVAL, settings.health_every))
    deadline = time.monotonic() + settings.watch_seconds
    tail = _clients(settings, log)
    while True:
        if settings.watch_url:
            tally.probe(health.ask_site(settings), [sha])
        _count(tally, tail, settings)
        reason = tally.over_budget(settings.watch_max_error_ratio, settings.watch_min_requests)
        if not reason and time.monotonic() >= deadline and tally.probes == tally.limited > 0:
            reason = f"no health request through Nginx was answered but with {tally.problem}"
        if reason or time.monotonic() >= deadline:
            return tally, reason
        time.sleep(min(_PROBE_INTERVAL, max(0.0, deadline - time.monotonic())))


@contextlib.contextmanager
def probing(settings: Settings, shas: Collection[str], log: tuple[int, int] | None) -> Iterator[Tally]:
    """Probe the site and count the clients' requests while the block runs. The tally is complete afterwards.

    `shas` are the commits that may answer, `log` is as for `watch`.
    """
    tally, done = Tally(interval=max(_PROBE_INTERVAL, settings.health_every)), threading.Event()

    def probe() -> None:
        while not done.wait(_PROBE_INTERVAL if tally.probes else 0):
            tally.probe(health.ask_site(settings), shas)

    prober = threading.Thread(target=probe, daemon=True)
    tail = _clients(settings, log)
    if settings.watch_url:
        prober.start()
    try:
        yield tally
    finally:
        done.set()
        if settings.watch_url:
            prober.join()
        _count(tally, tail, settings)


def _clients(settings: Settings, log: tuple[int, int] | None) -> Tail | None:
    """The access log, from where it was last read."""
    return Tail(Path(settings.access_log), log) if settings.access_log else None


def _count(tally: Tally, tail: Tail | None, settings: Settings) -> None:
    if tail is not None:
        requests, errors = count_statuses(tail.lines(), settings.health_path)
        tally.requests += requests
        tally.errors += errors
        tally.log = tail.mark
