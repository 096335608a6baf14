"""What all tests share: a record of their outcomes, where `make test` asks for one, and a host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.runner import outcomes

if TYPE_CHECKING:
    from tests.faults.site import Site


def pytest_configure(config: pytest.Config) -> None:
    outcomes.register(config, os.environ)


@pytest.fixture(scope="session")
def shared_host() -> Iterator[Site]:
    """The provisioned host of the suites that have none of their own: one for all of them that a run has."""
    from hosts import scratch  # here, as the tests without a host do without
    from hosts.host import Host
    from tests.faults.conftest import provision

    with provision(
        Host("slipway-shared", "13", {29022: 22, 29080: 80, 29443: 443}), scratch.PROJECT / ".cache/shared"
    ) as site:
        yield site
