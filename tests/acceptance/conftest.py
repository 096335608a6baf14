"""A real host, an inventory for it, and tagged versions of this work tree to deploy to it."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator

import httpx
import pytest

from hosts import scratch
from hosts.host import Host
from tests import load
from tests.controller import Controller as AnyController

SSH_PORT, HTTP_PORT, HTTPS_PORT = 18022, 18080, 18443
OVERLAY = scratch.PROJECT / "tests/overlay"


class Controller(AnyController):
    """The bundled app is what it deploys."""

    def variant(self, tag: str, files: dict[str, str]) -> str:
        """Tag a version of the work tree with a few files replaced; its commit."""
        overlay = self.state / "variant"
        for name, content in files.items():
            (overlay / name).parent.mkdir(parents=True, exist_ok=True)
            (overlay / name).write_text(textwrap.dedent(content))
        sha = scratch.tag(self.repository, tag, OVERLAY, overlay)
        for name in files:
            (overlay / name).unlink()
        return sha


def _release(answer: httpx.Response) -> str:
    return str(answer.json()["release"])


def _service(number: int) -> dict[str, str]:
    return {"name": f"s{time.time_ns()}-{number}", "repository_url": "https://git.example.com/x"}


CALLS = [
    load.Call("GET", "/health/ready", 200, names=_release),
    load.Call("POST", "/api/v1/services", 201, body=_service),
]


class Load(load.Load):
    """Two clients, one reading and one writing, about a hundred requests a second together."""

    def __init__(self, of: Controller) -> None:
        super().__init__(of, CALLS)


@pytest.fixture(scope="session")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A host as fresh as a new VM, with v1.0.0 and v2.0.0 (one more migration) ready to be deployed."""
    host = Host("slipway-acceptance", "13", {SSH_PORT: 22, HTTP_PORT: 80, HTTPS_PORT: 443})
    host.down()  # what an interrupted run left
    made = Controller(host, tmp_path_factory.mktemp("acceptance"), {"watch_seconds": 3})
    scratch.tag(made.repository, "v1.0.0")
    scratch.tag(made.repository, "v2.0.0", OVERLAY)
    made.up()
    yield made
    host.down()
