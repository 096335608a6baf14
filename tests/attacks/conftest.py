"""One host for attacks: each runs as the user that the attacker would be, and with what that user has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hosts import scratch
from hosts.host import Host
from tests.faults.conftest import provision, site, steady
from tests.faults.site import Site
from tests.faults.table import pytest_configure, pytest_runtest_makereport, pytest_terminal_summary

__all__ = ["pytest_configure", "pytest_runtest_makereport", "pytest_terminal_summary", "site", "steady"]

SSH_PORT, HTTP_PORT, HTTPS_PORT = 30122, 30180, 30543
CACHE = scratch.PROJECT / ".cache/attacks"


@pytest.fixture(scope="session")
def provisioned() -> Iterator[Site]:
    host = Host("slipway-attacks", "13", {SSH_PORT: 22, HTTP_PORT: 80, HTTPS_PORT: 443})
    with provision(host, CACHE / "state") as found:
        yield found
