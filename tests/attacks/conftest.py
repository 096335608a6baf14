"""The shared host for attacks: each runs as the user that the attacker would be, and with what that user has."""

from __future__ import annotations

import pytest

from tests.faults.conftest import site, steady
from tests.faults.site import Site
from tests.faults.table import pytest_configure, pytest_runtest_makereport, pytest_terminal_summary

__all__ = ["pytest_configure", "pytest_runtest_makereport", "pytest_terminal_summary", "site", "steady"]


@pytest.fixture(scope="session")
def provisioned(shared_host: Site) -> Site:
    return shared_host
