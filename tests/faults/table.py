"""The table that a run of the fault tests writes: hooks of pytest, for the conftest.py of each directory with rows."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from hosts import scratch

_Line = tuple[int, str, str, str, float]
_lines = pytest.StashKey[list[_Line]]()
_started = pytest.StashKey[float]()
_directory = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    if _lines not in config.stash:  # it is called for each directory
        config.stash[_lines] = []
        config.stash[_started] = time.monotonic()


def refuse_gaps(config: pytest.Config, items: list[pytest.Item], directory: str, rows: set[int]) -> None:
    """Refuse a run of a whole directory in which a row has no test."""
    covered = {mark.args[0] for item in items for mark in item.iter_markers("row")}
    whole = [str(argument).rstrip("/") for argument in config.invocation_params.args if "::" not in str(argument)]
    if directory in whole and not config.option.keyword and (absent := rows - covered):
        raise pytest.UsageError(f"rows of the fault table without a test: {sorted(absent)}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's result
    if report.when != "call" and not (report.when == "setup" and report.failed):
        return
    item.config.stash[_directory] = item.path.parent.name
    found = dict(report.user_properties)
    for mark in item.iter_markers("row"):
        number, phase, fault = mark.args
        result: str = report.outcome
        if "requests" in found:
            result += f", {found['failed']} of {found['requests']} requests failed"
        if "note" in found:
            result += f"; {found['note']}"
        item.config.stash[_lines].append((number, phase, fault, result, call.duration))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[_lines]
    lines.sort()
    config.stash[_lines] = []
    if not lines:
        return
    table = ["| # | phase | fault | result | seconds |", "|---|---|---|---|---|"]
    table += [f"| {n} | {phase} | {fault} | {result} | {seconds:.0f} |" for n, phase, fault, result, seconds in lines]
    table.append(f"\n{len(lines)} tests in {time.monotonic() - config.stash[_started]:.0f} s.")
    file = scratch.PROJECT / ".cache" / config.stash[_directory] / "table.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(table) + "\n")
    terminalreporter.section("fault table")
    terminalreporter.write_line("\n".join(table))
