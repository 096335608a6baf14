"""Two hosts for all tests of a fleet: Debian 13 and 12."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from hosts import scratch
from hosts.host import Host
from tests.faults import table
from tests.faults.conftest import APP, VARIABLES
from tests.faults.site import Site
from tests.faults.table import pytest_configure, pytest_runtest_makereport, pytest_terminal_summary

from .fleet import Fleet

__all__ = ["pytest_configure", "pytest_runtest_makereport", "pytest_terminal_summary"]

CACHE = scratch.PROJECT / ".cache/fleet"
HOSTS = [
    Host("slipway-fleet-1", "13", {24022: 22, 24080: 80, 24443: 443}),
    Host("slipway-fleet-2", "12", {25022: 22, 25080: 80, 25443: 443}),
]
ROWS = {49, 50, 51, 55}
# Two hosts at once on a small machine: no test waits for this deadline.
SETTINGS = {**APP, "start_deadline": 90}


@pytest.fixture(scope="session")
def provisioned() -> Iterator[Fleet]:
    """Two fresh hosts with both good versions on them. SLIPWAY_KEEP_HOST=1 keeps them for the next run."""
    keep = os.environ.get("SLIPWAY_KEEP_HOST") == "1"
    first = Site(HOSTS[0], CACHE / "state", SETTINGS, VARIABLES, HOSTS)
    fleet = Fleet([first, first.at(HOSTS[1])])
    if not (keep and all(host.exists() for host in HOSTS) and first.repository.exists()):
        _remove()
        first.version()
        first.version()
        first.up()
        first.play("site.yml")
        for version in first.good:
            first.deploy(version)
    first.up()
    yield fleet
    if not keep:
        _remove()


def _remove() -> None:
    for host in HOSTS:
        host.down()
    shutil.rmtree(CACHE / "state", ignore_errors=True)


@pytest.fixture
def fleet(provisioned: Fleet) -> Iterator[Fleet]:
    """Both hosts with the same version and nothing under way, whatever the test before this one left."""
    for site in provisioned.sites:
        site.host.up()
    if not all(site.is_settled() for site in provisioned.sites) or len({s.live() for s in provisioned.sites}) > 1:
        for site in provisioned.sites:
            site.host.exec("slipway", "revert", "logbook", check=False)
            site.forgiven |= set(site.unended())
        provisioned.first.deploy(provisioned.first.good[0], "-e", "force=true")
    yield provisioned
    provisioned.first.kill_runs()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    table.refuse_gaps(config, items, "tests/fleet", ROWS)
