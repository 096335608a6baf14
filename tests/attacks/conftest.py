"""One host for attacks, with the fixtures of the fault tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hosts import scratch
from hosts.host import Host
from tests.faults.conftest import provision, site, steady
from tests.faults.site import Site

__all__ = ["site", "steady"]

SSH_PORT, HTTP_PORT, HTTPS_PORT = 30122, 30180, 30543
CACHE = scratch.PROJECT / ".cache/attacks"


@pytest.fixture(scope="session")
def provisioned() -> Iterator[Site]:
    host = Host("slipway-attacks", "13", {SSH_PORT: 22, HTTP_PORT: 80, HTTPS_PORT: 443})
    with provision(host, CACHE / "state") as found:
        yield found
