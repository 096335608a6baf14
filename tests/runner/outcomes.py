"""What pytest found, written while it runs: a run that is killed has still said which tests failed, and where it was.

One JSON object a line: `{"event": "started", "test": …}`, and `{"event": "passed" | "skipped" | "failed", "test": …,
"reason": …}`. `tests/conftest.py` registers the recorder where SLIPWAY_OUTCOMES names the file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

VARIABLE = "SLIPWAY_OUTCOMES"
LONGEST_REASON = 300


@dataclass(frozen=True)
class Failure:
    """One test (or file, or task) that failed, and why; both on one line."""

    test: str
    reason: str


@dataclass
class Outcomes:
    """What a run of pytest has come to so far."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    running: list[str] = field(default_factory=list)


def one_line(text: str, longest: int = LONGEST_REASON) -> str:
    """A message without its line breaks, cut where it is too long for a list."""
    folded = " ".join(text.split())
    return folded if len(folded) <= longest else f"{folded[: longest - 1]}…"


class Recorder:
    """The pytest plugin that writes the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write("started", nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            where = "" if report.when == "call" else f"{report.when}: "
            self._write("failed", report.nodeid, where + reason(report))
        elif report.skipped:
            self._write("skipped", report.nodeid)
        elif report.when == "call":
            self._write("passed", report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._write("ended", nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write("failed", report.nodeid, f"not collected: {reason(report)}")

    def _write(self, event: str, test: str, why: str = "") -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"event": event, "test": test, "reason": why}) + "\n")


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The exception with its message, or the last line that there is where no exception was kept."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = (
        str(crash.message) if crash is not None else report.longreprtext.strip().rpartition("\n")[2].removeprefix("E ")
    )
    if len(text) > LONGEST_REASON:  # a whole output, most likely: what was expected of it says more
        text = next((line for line in text.splitlines() if line.startswith("assert ")), text)
    return one_line(text) or "pytest gave no reason"


def register(config: pytest.Config, environment: Mapping[str, str]) -> None:
    """Record this run where the environment names a file for it; workers of xdist leave it to their controller."""
    if (path := environment.get(VARIABLE)) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(path)), "slipway-outcomes")


def read(path: Path) -> Outcomes:
    """What the file says; nothing where there is none, as of a part that is not pytest's."""
    found = Outcomes()
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    for line in lines:
        if not line.endswith("\n"):  # it is being written, or its writer was killed
            continue
        values = json.loads(line)
        event, test = values["event"], values["test"]
        if event == "started":
            found.running.append(test)
        elif event == "ended":
            found.running = [name for name in found.running if name != test]
        else:
            found.counts[event] += 1
        if event == "failed":
            found.failures.append(Failure(test, values["reason"]))
    return found
