"""The shared host for the circumstances that want one, with the fixtures of the fault tests."""

from __future__ import annotations

import pytest

from tests.faults import table
from tests.faults.conftest import site, steady
from tests.faults.site import Site
from tests.faults.table import pytest_configure, pytest_runtest_makereport, pytest_terminal_summary

__all__ = ["pytest_configure", "pytest_runtest_makereport", "pytest_terminal_summary", "site", "steady"]

ROWS = {59}


@pytest.fixture(scope="session")
def provisioned(shared_host: Site) -> Site:
    return shared_host


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    table.refuse_gaps(config, items, "tests/circumstances/host", ROWS)
