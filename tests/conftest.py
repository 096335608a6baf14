"""What all tests share: a record of their outcomes, where `make test` asks for one."""

from __future__ import annotations

import os

import pytest

from tests.runner import outcomes


def pytest_configure(config: pytest.Config) -> None:
    outcomes.register(config, os.environ)
