"""The receipt of a cutover: what became of the requests that were sent while it lasted, and how long they took."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Receipt:
    """Counts from the switch to the end of the drain: the clients' requests, and our own probes through nginx."""

    requests: int = 0  # of clients, as the access log has them
    errors: int = 0  # of these, answered with a server error
    probes: int = 0
    failed_probes: int = 0
    cut: int = 0  # connections to the old slot that were open at the deadline of the drain
    cut_errors: int = 0  # of the errors, those that came as these were cut: the same requests, as Nginx saw them
    milliseconds: list[float] = field(default_factory=list)  # how long each probe took
    log: list[int] = field(default_factory=list)  # how far the access log was read: inode and offset

    @property
    def sent(self) -> int:
        return self.requests + self.probes

    @property
    def failed(self) -> int:
        return self.errors + self.failed_probes + max(0, self.cut - self.cut_errors)

    def summary(self, phases: dict[str, float]) -> dict[str, Any]:
        """For the journal; `phases` are seconds by phase."""
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
            "phases": phases,
        }


def percentile(values: list[float], percent: float) -> float | None:
    """The smallest value that `percent` per cent of all values do not exceed; None of no values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def count(summary: dict[str, Any]) -> str:
    """The heart of a receipt in words: `0 of 412 requests failed`."""
    return f"{summary['failed']} of {summary['sent']} requests failed"


def sentence(summary: dict[str, Any], before: str | None, version: str) -> str:
    """A receipt as a person reads it at the end of a deploy: from where to where, how fast, at what cost."""
    phases = summary["phases"]
    live_after = sum(seconds for name, seconds in phases.items() if name not in ("watch", "drain", "prune"))
    way = f"{before} → {version}" if before else f"{version} is live"
    took = f" (p50 {summary['p50_ms']:.0f} ms, p99 {summary['p99_ms']:.0f} ms)" if summary["probes"] else ""
    watched = f"; watched for {phases['watch']:.0f} s" if phases.get("watch", 0) >= 1 else ""
    return f"{way} in {live_after:.1f} s, {count(summary)}{took}{watched}."
