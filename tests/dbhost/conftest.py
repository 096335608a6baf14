"""A host of the app and one that has its database alone, in one environment, on a network of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from hosts import scratch
from hosts.container_runtime import ensure, run
from hosts.host import Host
from tests.faults.conftest import APP
from tests.faults.site import Site

CACHE = scratch.PROJECT / ".cache/dbhost"
NETWORK = "slipway-dbhost"
SUBNET = "198.18.77.0/24"
ADDRESSES = {"app": "198.18.77.10", "db": "198.18.77.20"}


def _on(name: str) -> tuple[str, ...]:
    """The options of a host with this one of the addresses."""
    return ("--network", NETWORK, "--ip", ADDRESSES[name])


HOST = Host("slipway-dbhost-app", "13", {25122: 22, 25180: 80, 25143: 443}, flags=_on("app"))
SERVER = Host("slipway-dbhost-db", "13", {25222: 22}, flags=_on("db"))


@dataclass
class Shop(Site):
    """The host of the app; what asks PostgreSQL asks the other one."""

    def declare(
        self, others: dict[str, dict[str, Any]] | None = None, settings: dict[str, Any] | None = None, **changes: Any
    ) -> None:
        super().declare(others, settings, **changes)
        path = self.state / "inventory.yml"
        groups = yaml.safe_load(path.read_text())
        for host, address in ((HOST, ADDRESSES["app"]), (SERVER, ADDRESSES["db"])):
            groups["local"]["hosts"][host.name]["internal_address"] = address
        groups["database"] = {"hosts": {SERVER.name: None}}
        path.write_text(yaml.safe_dump(groups))

    def sql(self, statement: str) -> str:
        psql = ["psql", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-tA", "-d", "logbook", "-c", statement]
        return SERVER.exec("runuser", "-u", "postgres", "--", *psql)

    def there(self, script: str) -> str:
        """What a shell on the host of the database prints."""
        return SERVER.exec("sh", "-c", script)


@pytest.fixture(scope="session")
def shop() -> Iterator[Shop]:
    """Both hosts, with a good version live. SLIPWAY_KEEP_HOST=1 keeps them for the next run."""
    keep = os.environ.get("SLIPWAY_KEEP_HOST") == "1"
    kept = keep and HOST.exists() and SERVER.exists() and CACHE.exists()
    if not kept:
        _remove()
        ensure()
        run("docker", "network", "create", "--subnet", SUBNET, NETWORK)
    CACHE.mkdir(parents=True, exist_ok=True)
    app = {**APP, "database": {"on": SERVER.name}}
    shop = Shop(HOST, CACHE / "state", app, {}, [HOST, SERVER])
    if not kept:
        shop.version()
        shop.version(migration="adds_a_table")
    shop.up()
    if not kept:
        shop.play("site.yml")
        for version in shop.good:
            shop.deploy(version)
    yield shop
    if not keep:
        _remove()


def _remove() -> None:
    for host in (HOST, SERVER):
        host.down()
    run("docker", "network", "rm", NETWORK, check=False)
    shutil.rmtree(CACHE, ignore_errors=True)
