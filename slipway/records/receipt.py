"""The receipt of a cutover: how many requests were sent during it, how many of them failed, how long they took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slipway.records import formats, phases


@dataclass(frozen=True)
class Receipt:
    """Counts from the switch to the end of the drain: the clients' requests, and the engine's probes through Nginx."""

    requests: int = 0  # of clients, from the access log
    errors: int = 0  # requests of clients that were answered with a server error
    probes: int = 0
    failed_probes: int = 0
    cut: int = 0  # connections to the old slot that were open at the deadline of the drain
    cut_errors: int = 0  # errors from cutting these connections: the same requests, as Nginx logged them
    milliseconds: tuple[float, ...] = ()  # how long each probe took
    log: tuple[int, int] | None = None  # how far the access log was read: inode and offset
    unknown: dict[str, Any] = field(default_factory=dict)  # fields of another version of the engine

    @property
    def sent(self) -> int:
        return self.requests + self.probes

    @property
    def failed(self) -> int:
        return self.errors + self.failed_probes + max(0, self.cut - self.cut_errors)

    def summary(self, seconds: Mapping[str, float]) -> dict[str, Any]:
        """The receipt for the journal; `seconds` has the duration of each phase."""
        return {
            "sent": self.sent,
            "failed": self.failed,
            "requests": self.requests,
            "errors": self.errors,
            "probes": self.probes,
            "failed_probes": self.failed_probes,
            "cut": self.cut,
            "p50_ms": percentile(self.milliseconds, 50),
            "p99_ms": percentile(self.milliseconds, 99),
            "phases": dict(seconds),
        }


def load(value: Mapping[str, Any]) -> Receipt:
    """A receipt from the decoded object of a deployment's record."""
    arguments, unknown = formats.split(value, Receipt)
    arguments["milliseconds"] = tuple(arguments.get("milliseconds", ()))
    arguments["log"] = tuple(arguments.get("log") or ()) or None
    return Receipt(**arguments, unknown=unknown)


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that `percent` per cent of the values do not exceed; None if there are no values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def count(summary: dict[str, Any]) -> str:
    """The most important part of a receipt: `0 of 412 requests failed`."""
    return f"{summary['failed']} of {summary['sent']} requests failed"


def sentence(summary: dict[str, Any], before: str | None, version: str) -> str:
    """A receipt as a sentence, for the end of a deploy: from which version to which, seconds, failed requests."""
    spent = summary["phases"]
    live_after = sum(seconds for name, seconds in spent.items() if name in phases.BEFORE_LIVE)
    way = f"{before} → {version}" if before else f"{version} is live"
    took = f" (p50 {summary['p50_ms']:.0f} ms, p99 {summary['p99_ms']:.0f} ms)" if summary["probes"] else ""
    watched = f"; watched for {spent['watch']:.0f} s" if spent.get("watch", 0) >= 1 else ""
    return f"{way} in {live_after:.1f} s, {count(summary)}{took}{watched}."
