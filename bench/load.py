"""Numbers from the output of load generators and from logs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Window = tuple[float, float]  # seconds since the epoch, from and to


@dataclass(frozen=True)
class Wrk:
    """The counts of `wrk`: answers, socket errors (including timeouts), and answers other than 2xx or 3xx."""

    requests: int
    socket_errors: int
    bad_answers: int

    @property
    def failed(self) -> int:
        return self.socket_errors + self.bad_answers


def read_wrk(output: str) -> Wrk:
    """The counts in wrk's report; ValueError when the output has no report."""
    if not (requests := re.search(r"(\d+) requests in", output)):
        raise ValueError(f"wrk did not end with a report: {output[-500:]}")
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return Wrk(int(requests[1]), sum(map(int, sockets.groups())) if sockets else 0, int(bad[1]) if bad else 0)


def read_h2load(output: str) -> float:
    """Requests per second in h2load's report; ValueError when there is no report, or not all requests succeeded."""
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", output)
    counts = re.search(r"requests: (\d+) total, .* (\d+) succeeded", output)
    if not rate or not counts or counts[1] != counts[2]:
        raise ValueError(f"h2load did not succeed: {output[-500:]}")
    return float(rate[1])


def read_access_log(lines: Iterable[str], user_agent: str = "") -> list[tuple[float, float]]:
    """For each request its end (whole seconds since 1970) and its duration (milliseconds)."""
    found = []
    for line in lines:
        entry = json.loads(line)
        if entry["user_agent"] == user_agent:
            found.append((datetime.fromisoformat(entry["time"]).timestamp(), float(entry["request_time"]) * 1000))
    return found


def windows(journal: Iterable[Mapping[str, Any]], first: str, last: str) -> list[Window]:
    """The time from the start of phase `first` to the end of phase `last`, for each deployment that has both."""
    began: dict[str, float] = {}
    found = []
    for line in journal:
        end = datetime.fromisoformat(line["at"]).timestamp()
        if line["phase"] == first:
            began[line["deployment"]] = end - line["seconds"]
        if line["phase"] == last and line["deployment"] in began:
            found.append((began[line["deployment"]], end))
    return found


def split(requests: Iterable[tuple[float, float]], within: Iterable[Window]) -> tuple[list[float], list[float]]:
    """The durations of requests inside and outside of the windows, which are widened to the log's whole seconds."""
    seconds = {second for begin, end in within for second in range(int(begin), int(end) + 1)}
    inside: list[float] = []
    outside: list[float] = []
    for at, milliseconds in requests:
        (inside if int(at) in seconds else outside).append(milliseconds)
    return inside, outside
