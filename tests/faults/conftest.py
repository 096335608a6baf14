"""One host for the rows of the fault table, and a steady client."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from hosts import scratch
from hosts.host import Host
from tests.load import Load, Outcome

from . import table
from .site import CALLS, LOCK, WORKERS, Site
from .table import pytest_configure, pytest_runtest_makereport, pytest_terminal_summary

__all__ = ["pytest_configure", "pytest_runtest_makereport", "pytest_terminal_summary"]

SSH_PORT, HTTP_PORT, HTTPS_PORT = 28022, 28080, 28443
CACHE = scratch.PROJECT / ".cache/faults"
# 36, 37: tests/acceptance/test_tls.py, which has an ACME server. 49-51, 55: tests/fleet, which has several hosts.
# 56-58: tests/standby, beside this directory on a host of its own.
ELSEWHERE = {36, 37, 49, 50, 51, 55, 56, 57, 58}
ROWS = set(range(1, 59)) - ELSEWHERE

# What most rows want: little time for what they do not look at, and every release kept.
APP = {
    "watch_seconds": 1,
    "start_deadline": 60,
    "drain_seconds": 5,
    # Row 38 has a request of 25 s, and a slot that is stopped waits as long as Nginx does.
    "request_timeout": 30,
    "graceful_timeout": 30,
    "keep_releases": 200,
    "workers": WORKERS,
}
# Seconds between two requests of a client: all clients together send one every 50 ms.
PAUSE = 0.2
# A client that Nginx tells to connect anew in the middle of a test would count that as a failure.
VARIABLES = {"nginx_keepalive_requests": 1_000_000}


class Steady(Protocol):
    """Begins the load; `verify` False is a client that takes any certificate."""

    def __call__(self, *, verify: bool = True) -> AbstractContextManager[Outcome]: ...


@contextlib.contextmanager
def provision(host: Host, state: Path) -> Iterator[Site]:
    """A fresh host, provisioned, with both good versions on it. SLIPWAY_KEEP_HOST=1 keeps it for the next run."""
    keep = os.environ.get("SLIPWAY_KEEP_HOST") == "1"
    site = Site(host, state, APP, VARIABLES)
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


@pytest.fixture(scope="session")
def provisioned() -> Iterator[Site]:
    host = Host("slipway-faults", "13", {SSH_PORT: 22, HTTP_PORT: 80, HTTPS_PORT: 443})
    with provision(host, CACHE / "state") as site:
        yield site


def _forget(site: Site) -> None:
    shutil.rmtree(site.state, ignore_errors=True)


@pytest.fixture
def site(provisioned: Site) -> Iterator[Site]:
    """The host with a version that serves and nothing under way, whatever the test before this one left."""
    if not provisioned.is_settled():
        provisioned.sh(f"timeout 180 flock {LOCK} true")  # an engine that is still at work for a test that failed
        provisioned.host.exec("slipway", "revert", "logbook")  # of whomever: one failure is to be one
        provisioned.forgiven |= set(provisioned.unended())
        provisioned.deploy(provisioned.good[0], "-e", "force=true")
    yield provisioned
    provisioned.kill_runs()


@pytest.fixture
def steady(site: Site, record_property: Callable[[str, object], None]) -> Steady:
    """GET and POST over HTTP/1.1 and HTTP/2, each on a connection of its own that it keeps."""

    @contextlib.contextmanager
    def load(*, verify: bool = True) -> Iterator[Outcome]:
        with Load(site, CALLS, http2=(False, True), pause=PAUSE, verify=verify) as outcome:
            yield outcome
        assert outcome.sent > 20
        record_property("requests", outcome.sent)
        record_property("failed", len(outcome.failures))

    return load


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    table.refuse_gaps(config, items, "tests/faults", ROWS)
