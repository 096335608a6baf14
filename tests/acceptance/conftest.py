"""A real host, an inventory for it, and tagged versions of this work tree to deploy to it."""

from __future__ import annotations

import os
import shutil
import textwrap
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import httpx
import pytest

from hosts import scratch
from hosts.host import Host
from tests import load
from tests.controller import Controller as AnyController

SSH_PORT, HTTP_PORT, HTTPS_PORT = 18022, 18080, 18443
OVERLAY = scratch.PROJECT / "tests/overlay"
STATE = scratch.PROJECT / ".cache/acceptance"

# As in inventories/local: it keeps the record of its own deploys.
APP: dict[str, Any] = {
    "watch_seconds": 3,
    "auth_check": "POST /api/v1/deployments",
    "logbook_url": "https://127.0.0.1",
    "logbook_ca": "/etc/ssl/slipway/ca/ca.crt",
}


class Controller(AnyController):
    """A controller that deploys the bundled app."""

    def variant(self, tag: str, files: dict[str, str]) -> str:
        """Tag a version of the work tree with some files replaced; its commit."""
        overlay = self.state / "variant"
        for name, content in files.items():
            (overlay / name).parent.mkdir(parents=True, exist_ok=True)
            (overlay / name).write_text(textwrap.dedent(content))
        if scratch.git(self.repository, "tag", "--list", tag):  # of an earlier run, on a host that was kept
            scratch.git(self.repository, "tag", "--delete", tag)
        sha = scratch.tag(self.repository, tag, OVERLAY, overlay)
        for name in files:
            (overlay / name).unlink()
        return sha

    def token(self, name: str, scope: str) -> str:
        """Create a token of the Logbook, on the host like the first one."""
        create = f"slipway run logbook -- python -m app.tokens create --name {name} --scope {scope}"
        return self.host.exec(*create.split()).splitlines()[-1]

    @cached_property
    def load_token(self) -> str:
        return self.token("load", "write")


def _release(answer: httpx.Response) -> str:
    return str(answer.json()["release"])


def _service(number: int) -> dict[str, str]:
    return {"name": f"s{time.time_ns()}-{number}", "repository_url": "https://git.example.com/x"}


CALLS = [
    load.Call("GET", "/health/ready", 200, names=_release),
    load.Call("POST", "/api/v1/services", 201, body=_service),
]


class Load(load.Load):
    """Two clients, one that reads and one that writes, with about a hundred requests per second together."""

    def __init__(self, of: Controller) -> None:
        super().__init__(of, CALLS, headers={"Authorization": f"Bearer {of.load_token}"})


@pytest.fixture(scope="session")
def controller() -> Iterator[Controller]:
    """A host like a new VM, with v1.0.0 and v2.0.0 (one more migration) ready to be deployed.

    SLIPWAY_KEEP_HOST=1 keeps it for the next run, of any file but test_deploy.py, which wants it fresh.
    """
    keep = os.environ.get("SLIPWAY_KEEP_HOST") == "1"
    host = Host("slipway-acceptance", "13", {SSH_PORT: 22, HTTP_PORT: 80, HTTPS_PORT: 443})
    made = Controller(host, STATE, APP)
    if not (keep and host.exists() and made.repository.exists()):
        host.down()  # what an interrupted run left
        shutil.rmtree(STATE, ignore_errors=True)
        scratch.tag(made.repository, "v1.0.0")
        scratch.tag(made.repository, "v2.0.0", OVERLAY)
    made.up()
    yield made
    if not keep:
        host.down()
        shutil.rmtree(STATE, ignore_errors=True)
