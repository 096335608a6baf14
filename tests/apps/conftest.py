"""Two hosts with all seven apps on each: Debian 13 is prod, Debian 12 is staging."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Protocol

import pytest

from hosts import scratch
from hosts.host import Host
from tests.load import Load, Outcome

from . import shapes
from .site import CALLS, Environment, forget

STATE = scratch.PROJECT / ".cache/apps/state"
HOSTS = {
    "prod": Host("slipway-apps-1", "13", {26022: 22, 26080: 80, 26443: 443}),
    "staging": Host("slipway-apps-2", "12", {26122: 22, 26180: 80, 26543: 443}),
}
PAUSE = 0.15  # seconds between two requests of a client


@pytest.fixture(scope="session")
def environments() -> Iterator[dict[str, Environment]]:
    """Both hosts, provisioned, with the first version of each app. SLIPWAY_KEEP_HOST=1 keeps them for the next run."""
    keep = os.environ.get("SLIPWAY_KEEP_HOST") == "1"
    made = {name: Environment(host, STATE, name=name) for name, host in HOSTS.items()}
    fresh = not (keep and all(host.exists() for host in HOSTS.values()) and STATE.exists())
    if fresh:
        _remove()
        for app in shapes.NAMES:
            shapes.make(app, STATE / "repositories" / app)
    for environment in made.values():
        environment.up()
    if fresh:
        with ThreadPoolExecutor() as pool:
            list(pool.map(_provision, made.values()))
    yield made
    if not keep:
        _remove()


def _provision(environment: Environment) -> None:
    environment.play("site.yml", limit=None)
    for app in shapes.NAMES:
        environment.deploy(app, shapes.FIRST)


def _remove() -> None:
    for host in HOSTS.values():
        host.down()
    forget(STATE)


@pytest.fixture
def prod(environments: dict[str, Environment]) -> Environment:
    return environments["prod"]


@pytest.fixture
def staging(environments: dict[str, Environment]) -> Environment:
    return environments["staging"]


class Clients(Protocol):
    """With `keep` False each request has a connection of its own.

    That is for a run of site.yml that changes what Nginx serves: a reload closes idle connections, and Nginx before
    1.27.4 may do that in the moment in which a client sends (measured: 4 of 240 clients).
    """

    def __call__(
        self, environment: Environment, names: Iterable[str], *, keep: bool = True
    ) -> AbstractContextManager[dict[str, Outcome]]: ...


@pytest.fixture
def clients(record_property: Callable[[str, object], None]) -> Clients:
    """Clients of the named apps; in the end every one of their requests was answered, by one release alone."""

    @contextlib.contextmanager
    def load(environment: Environment, names: Iterable[str], *, keep: bool = True) -> Iterator[dict[str, Outcome]]:
        before = {name: environment.of(name).live() for name in names}
        with contextlib.ExitStack() as stack:
            found = {
                name: stack.enter_context(Load(environment.of(name), CALLS[name], pause=PAUSE, keep=keep))
                for name in before
            }
            yield found
        record_property("requests", sum(outcome.sent for outcome in found.values()))
        for name, outcome in found.items():
            assert outcome.failures == [], name
            assert outcome.sent > 20, name
            assert outcome.releases == [before[name]], name

    return load
