"""One host for the circumstances that want one, with the fixtures of the fault tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hosts import scratch
from hosts.host import Host
from tests.faults import table
from tests.faults.conftest import provision, site, steady
from tests.faults.site import Site
from tests.faults.table import pytest_configure, pytest_runtest_makereport, pytest_terminal_summary

__all__ = ["pytest_configure", "pytest_runtest_makereport", "pytest_terminal_summary", "site", "steady"]

SSH_PORT, HTTP_PORT, HTTPS_PORT = 30022, 30080, 30443
CACHE = scratch.PROJECT / ".cache/circumstances"
ROWS = {59}


@pytest.fixture(scope="session")
def provisioned() -> Iterator[Site]:
    host = Host("slipway-circumstances", "13", {SSH_PORT: 22, HTTP_PORT: 80, HTTPS_PORT: 443})
    with provision(host, CACHE / "state") as found:
        yield found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    table.refuse_gaps(config, items, "tests/circumstances/host", ROWS)
