"""Nginx as the role configures it, one for all tests that need nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import edge as edges


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edges.Edge]:
    with edges.running(tmp_path_factory.mktemp("edge")) as found:
        yield found


@pytest.fixture
def edge(running: edges.Edge) -> edges.Edge:
    """Nginx, and an app that nothing has reached yet."""
    running.app.requests.clear()
    running.app.answer = edges.ok
    return running
