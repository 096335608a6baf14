"""One host for all rows of the fault table, a steady client, and the table that a run of them writes."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import httpx
import pytest

from hosts import scratch
from hosts.host import Host
from tests.load import Load, Outcome

from .site import CALLS, LOCK, WORKERS, Site

SSH_PORT, HTTP_PORT, HTTPS_PORT = 28022, 28080, 28443
CACHE = scratch.PROJECT / ".cache/faults"
# 36, 37: tests/acceptance/test_tls.py, which has an ACME server. 49-51, 55: tests/fleet, which has several hosts.
ELSEWHERE = {36, 37, 49, 50, 51, 55}
ROWS = set(range(1, 59)) - ELSEWHERE

# What most rows want: little time for what they do not look at, and every release kept.
APP = {
    "watch_seconds": 1,
    "start_deadline": 20,
    "drain_seconds": 5,
    "graceful_timeout": 5,
    "keep_releases": 200,
    "workers": WORKERS,
}
# A client that Nginx tells to connect anew in the middle of a test would count that as a failure.
VARIABLES = {"nginx_keepalive_requests": 1_000_000}


class Steady(Protocol):
    """Begins the load; `verify` False is a client that takes any certificate."""

    def __call__(self, *, verify: bool = True) -> AbstractContextManager[Outcome]: ...


@pytest.fixture(scope="session")
def provisioned() -> Iterator[Site]:
    """A fresh host, provisioned, with both good versions on it. SLIPWAY_KEEP_HOST=1 keeps it for the next run."""
    keep = os.environ.get("SLIPWAY_KEEP_HOST") == "1"
    host = Host("slipway-faults", "13", {SSH_PORT: 22, HTTP_PORT: 80, HTTPS_PORT: 443})
    site = Site(host, CACHE / "state", APP, VARIABLES)
    if not (keep and site.host.exists() and site.repository.exists()):
        site.host.down()
        _forget(site)
        site.version()
        site.version()
        site.up()
        site.play("site.yml")
        for version in site.good:
            site.deploy(version)
    site.up()
    yield site
    if not keep:
        site.host.down()
        _forget(site)


def _forget(site: Site) -> None:
    shutil.rmtree(site.state, ignore_errors=True)


@pytest.fixture
def site(provisioned: Site) -> Iterator[Site]:
    """The host with a version that serves and nothing under way, whatever the test before this one left."""
    if not _is_settled(provisioned):
        provisioned.sh(f"timeout 180 flock {LOCK} true")  # an engine that is still at work for a test that failed
        provisioned.host.exec("slipway", "revert", "logbook")  # of whomever: one failure is to be one
        provisioned.forgiven |= set(provisioned.unended())
        provisioned.deploy(provisioned.good[0], "-e", "force=true")
    yield provisioned
    provisioned.kill_runs()


def _is_settled(site: Site) -> bool:
    try:
        return site.left_behind() == [] and bool(site.live())
    except (AssertionError, httpx.HTTPError):
        return False


@pytest.fixture
def steady(site: Site, record_property: Callable[[str, object], None]) -> Steady:
    """GET and POST over HTTP/1.1 and HTTP/2, each on a connection of its own that it keeps."""

    @contextlib.contextmanager
    def load(*, verify: bool = True) -> Iterator[Outcome]:
        with Load(site, CALLS, http2=(False, True), pause=0.04, verify=verify) as outcome:
            yield outcome
        assert outcome.sent > 20
        record_property("requests", outcome.sent)
        record_property("failed", len(outcome.failures))

    return load


# The table

_Line = tuple[int, str, str, str, float]
_lines = pytest.StashKey[list[_Line]]()
_started = pytest.StashKey[float]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_lines] = []
    config.stash[_started] = time.monotonic()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse a run of the whole table in which a row has no test."""
    covered = {mark.args[0] for item in items for mark in item.iter_markers("row")}
    whole = [str(argument).rstrip("/") for argument in config.invocation_params.args if "::" not in str(argument)]
    if "tests/faults" in whole and not config.option.keyword and (absent := ROWS - covered):
        raise pytest.UsageError(f"rows of the fault table without a test: {sorted(absent)}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's result
    if report.when != "call" and not (report.when == "setup" and report.failed):
        return
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
    if not lines:
        return
    table = ["| # | phase | fault | result | seconds |", "|---|---|---|---|---|"]
    table += [f"| {n} | {phase} | {fault} | {result} | {seconds:.0f} |" for n, phase, fault, result, seconds in lines]
    table.append(f"\n{len(lines)} tests in {time.monotonic() - config.stash[_started]:.0f} s.")
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "table.md").write_text("\n".join(table) + "\n")
    terminalreporter.section("fault table")
    terminalreporter.write_line("\n".join(table))
