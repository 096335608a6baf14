"""The hosts of the seven apps, and what is asked of an app from outside."""

from __future__ import annotations

import json
import shutil
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from hosts.host import USER, make_key
from tests.controller import Controller
from tests.load import Call

from . import shapes


def release(answer: httpx.Response) -> str:
    return answer.headers["x-release"]


# What an app is asked while something happens to another one: each touches its database or its Redis.
CALLS = {
    "billing": [Call("GET", "/", 200, names=release), Call("POST", "/", 201, names=release)],
    "orders": [Call("GET", "/", 200, names=release), Call("POST", "/", 201, names=release)],
    "notices": [Call("GET", "/", 200, names=release)],
    "chat": [Call("GET", "/", 200, names=release), Call("POST", "/", 201, names=release)],
    "album": [
        Call("GET", "/", 200, names=release),
        Call("PUT", "/files/load", 201, names=release, body=lambda n: {"n": n}),
    ],
    "guests": [Call("GET", "/", 200, names=release), Call("POST", "/", 201, names=release)],
    "ticker": [Call("GET", "/", 200, names=release), Call("POST", "/", 201, names=release)],
}


@dataclass
class Environment(Controller):
    """One host with all seven apps, in an environment of its own."""

    name: str = "prod"
    # Of other environments, for a run that asks them, too.
    more_inventories: tuple[Path, ...] = ()

    @property
    def repositories(self) -> Path:
        return self.state / "repositories"

    def up(self) -> None:
        self.host.up()
        self.host.allow(make_key(self.state / "key"))
        (self.state / f"{self.name}.known_hosts").write_text(self.host.known_host_line(self.port(22)))
        self.write_inventory()

    def write_inventory(self, **changes: dict[str, Any]) -> None:
        """The inventory, with changes to the entries of apps."""
        apps = yaml.safe_load(shapes.INVENTORY.read_text())["apps"]
        for app, change in changes.items():
            apps[app] = apps.get(app, {}) | change
        host = {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port(22),
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(self.state / "key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.state / f'{self.name}.known_hosts'}",
            "certificate_ca_fetch_to": str(self.authority),
            "repositories": str(self.repositories),
        }
        # The machine that these tests run on may be behind a proxy that signs TLS anew.
        bundle = Path("/etc/ssl/certs/ca-certificates.crt")
        host |= {"host_ca_certificates": [str(bundle)]} if bundle.exists() else {}
        groups = {self.name: {"hosts": {self.host.name: host}, "vars": {"apps": apps}}}
        self.inventory.write_text(yaml.safe_dump(groups, width=1000))

    @property
    def inventory(self) -> Path:
        return self.state / f"{self.name}.yml"

    @property
    def authority(self) -> Path:
        return self.state / f"{self.name}.crt"

    def command(self, playbook: str, *arguments: str, limit: str | None = "") -> list[str]:
        inventories = [word for path in (self.inventory, *self.more_inventories) for word in ("-i", str(path))]
        return ["ansible-playbook", *inventories, playbook, "-l", limit or self.name, *arguments]

    def deploy(self, app: str, version: str, *arguments: str) -> str:
        return self.play("deploy.yml", "-e", f"app={app}", "-e", f"version={version}", *arguments, limit=None)

    def deploy_fails(self, app: str, version: str) -> str:
        arguments = ("-e", f"app={app}", "-e", f"version={version}")
        return self.play("deploy.yml", *arguments, limit=None, check=False)

    def roll_back(self, app: str, *arguments: str) -> str:
        return self.play("rollback.yml", "-e", f"app={app}", *arguments, limit=None)

    def of(self, name: str) -> App:
        return App(self, name)

    def sh(self, script: str) -> str:
        return self.host.exec("sh", "-c", script)


@dataclass(frozen=True)
class App:
    """One app, as its clients see it: by its name, at the host's port."""

    environment: Environment
    name: str

    @property
    def domain(self) -> str:
        return f"{self.name}.example.com"

    def client(self, **values: Any) -> httpx.Client:
        def name_it(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = self.domain

        headers = {"Host": self.domain, **(values.pop("headers", None) or {})}
        base = f"https://127.0.0.1:{self.environment.port(443)}"
        hooks = {"request": [name_it]}
        return httpx.Client(
            base_url=base, headers=headers, event_hooks=hooks, **{"verify": self.trust(), "timeout": 20, **values}
        )

    def trust(self) -> ssl.SSLContext:
        return self.environment.trust()

    def ask(self, path: str = "/", method: str = "GET", expected: int = 200, **values: Any) -> httpx.Response:
        with self.client() as client:
            answer = client.request(method, path, **values)
        assert answer.status_code == expected, f"{self.name}{path}: {answer.status_code} {answer.text[:300]}"
        return answer

    def live(self) -> str:
        """The version that answers, which has to be the one that the host says is live."""
        answers = release(self.ask())
        live: str = self.environment.status(self.name)["live"]["tag"]
        assert answers == live, f"{live} is live, {answers} answered"
        return answers

    def other(self) -> str:
        """The good version that is not live."""
        return shapes.SECOND if self.live() == shapes.FIRST else shapes.FIRST

    def journal(self) -> list[dict[str, Any]]:
        lines = self.environment.host.exec("cat", f"/srv/{self.name}/journal.jsonl").splitlines()
        return [json.loads(line) for line in lines]

    def sql(self, statement: str) -> str:
        """What PostgreSQL's superuser is answered about the app's database."""
        psql = ["psql", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-tA", "-d", self.name, "-c", statement]
        return self.environment.host.exec("runuser", "-u", "postgres", "--", *psql)


def wait_for(condition: Callable[[], Any], seconds: float, interval: float = 0.1) -> float:
    """Ask until `condition` holds; how long that took. An AssertionError when it does not within `seconds`."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"waited {seconds:g} s in vain"
        time.sleep(interval)
    return time.monotonic() - started


def forget(state: Path) -> None:
    shutil.rmtree(state, ignore_errors=True)
