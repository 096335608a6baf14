"""The controller and the real hosts that it deploys to, shared by all tests on hosts."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from hosts import scratch
from hosts.host import USER, Host, make_key

SECRET = "a-secret-of-the-tests-" + "0123456789abcdef"


@dataclass
class Controller:
    """Runs playbooks like an operator, from the root of a checkout, and sends requests to the site from outside.

    `app` is the declaration of the app logbook, `variables` are those of each host: both over what every test host has.
    `host` is the one that is asked, `hosts` are all of the environment: that one, where nothing else is said.
    `project` is the checkout of Slipway whose playbooks are run.
    """

    host: Host
    state: Path
    app: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    hosts: list[Host] = field(default_factory=list)
    project: Path = scratch.PROJECT

    def __post_init__(self) -> None:
        self.hosts = self.hosts or [self.host]

    def at(self, host: Host) -> Self:
        """The same controller, with another host of the environment as `host`."""
        return replace(self, host=host)

    @property
    def repository(self) -> Path:
        return self.state / "repository"

    @property
    def authority(self) -> Path:
        """The certificate of the host's own authority."""
        return self.state / ("ca.crt" if self.host == self.hosts[0] else f"{self.host.name}.crt")

    def port(self, inner: int) -> int:
        """The port of this machine that is published for a port of the host."""
        return next(outer for outer, reached in self.host.ports.items() if reached == inner)

    def up(self) -> None:
        """Make sure that the hosts are booted and accept the key."""
        public_key = make_key(self.state / "key")
        for host in self.hosts:
            host.up()
            host.allow(public_key)
        known = [host.known_host_line(self.at(host).port(22)) for host in self.hosts]
        (self.state / "known_hosts").write_text("".join(known))
        self.declare()

    def play(self, playbook: str, *arguments: str, limit: str | None = "local", check: bool = True) -> str:
        """Run a playbook; its output. AssertionError with the output when it fails and `check` is set."""
        done = subprocess.run(self.command(playbook, *arguments, limit=limit), **self._how(), check=False)
        output: str = done.stdout
        assert not check or done.returncode == 0, output[-6000:]
        assert check or done.returncode, f"{playbook} was expected to fail:\n{output[-3000:]}"
        return output

    def start(
        self, playbook: str, *arguments: str, inside: Sequence[str] = (), **variables: str
    ) -> subprocess.Popen[str]:
        """A playbook that runs on, in a process group of its own; `variables` are added to its environment.

        `inside` is a command that runs it.
        """
        how = self._how()
        how["env"] |= variables
        return subprocess.Popen([*inside, *self.command(playbook, *arguments)], start_new_session=True, **how)

    def command(self, playbook: str, *arguments: str, limit: str | None = "local") -> list[str]:
        limits = ["-l", limit] if limit else []
        return ["ansible-playbook", "-i", str(self.state / "inventory.yml"), playbook, *limits, *arguments]

    def declare(
        self, others: dict[str, dict[str, Any]] | None = None, settings: dict[str, Any] | None = None, **changes: Any
    ) -> None:
        """Write the inventory; `changes` are laid over the app's declaration, `settings` over the host's variables.

        `others` are further apps, by name, each laid over the first one's declaration.
        """
        app = {
            "repository": str(self.repository),
            "domains": ["127.0.0.1", "localhost"],
            "https_port": self.port(443),
            "env": {"SECRET_KEY": SECRET},
            "required_env": ["SECRET_KEY"],
            **self.app,
            **changes,
        }
        apps = {"logbook": app, **{name: app | laid_over for name, laid_over in (others or {}).items()}}
        hosts = {host.name: {**self.at(host)._reached(), **self.variables, **(settings or {})} for host in self.hosts}
        groups = {
            "local": {"hosts": hosts, "vars": {"apps": apps}},
            "staging": {"hosts": {"elsewhere": {"ansible_host": "192.0.2.1"}}, "vars": {"apps": apps}},
            "unsorted": {"hosts": {"stray": {"ansible_host": "192.0.2.2"}}, "vars": {"apps": apps}},
        }
        (self.state / "inventory.yml").write_text(yaml.safe_dump(groups))

    def _reached(self) -> dict[str, Any]:
        """The host's variables: its connection, the authorities it trusts, and where its certificate is stored."""
        return {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port(22),
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(self.state / "key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.state / 'known_hosts'}",
            "host_ca_certificates": [name for name in ["/etc/ssl/certs/ca-certificates.crt"] if Path(name).exists()],
            "certificate_ca_fetch_to": str(self.authority),
        }

    @contextlib.contextmanager
    def declared(self, **changes: Any) -> Iterator[None]:
        """The inventory with these changes in the block; what site.yml changes on the host stays."""
        self.declare(**changes)
        try:
            yield
        finally:
            self.declare()

    def trust(self) -> ssl.SSLContext:
        """TLS that trusts the host's own authority."""
        return ssl.create_default_context(cafile=self.authority)

    def client(self, **values: Any) -> httpx.Client:
        """A client outside of the host."""
        return httpx.Client(base_url=f"https://127.0.0.1:{self.port(443)}", **{"verify": self.trust(), **values})

    def ready(self, name: str = "127.0.0.1") -> dict[str, Any]:
        """The answer of the site with this name to a request from outside."""
        with self.client() as client:
            headers, server_name = {"Host": name}, {"sni_hostname": name}
            answer = client.get("/health/ready", headers=headers, extensions=server_name)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def status(self, app: str = "logbook") -> dict[str, Any]:
        """The result of `slipway status --json` on the host."""
        event = json.loads(self.host.exec("slipway", "status", app, "--json").splitlines()[-1])
        found: dict[str, Any] = event["apps"][0]
        return found

    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.host.exec("cat", "/srv/logbook/journal.jsonl").splitlines()]

    def sha(self, tag: str) -> str:
        return scratch.git(self.repository, "rev-parse", f"{tag}^{{commit}}")

    def _how(self) -> dict[str, Any]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "ANSIBLE_NOCOLOR": "true"}
        return {
            "cwd": self.project,
            "env": environment,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "stdin": subprocess.DEVNULL,
            "text": True,
        }


def flat(output: str) -> str:
    """The output with line breaks and indentation replaced by single spaces."""
    return " ".join(output.split())
