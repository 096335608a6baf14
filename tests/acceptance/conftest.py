"""A real host, an inventory for it, and tagged versions of this work tree to deploy to it."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hosts import scratch
from hosts.host import Host, make_key

SSH_PORT, HTTP_PORT, HTTPS_PORT = 18022, 18080, 18443
OVERLAY = scratch.PROJECT / "tests/overlay"
SECRET = "a-secret-of-the-tests-" + "0123456789abcdef"


@dataclass
class Controller:
    """Runs playbooks as a person would, from the repository's root, and asks the site from outside."""

    host: Host
    state: Path

    @property
    def repository(self) -> Path:
        return self.state / "repository"

    def play(self, playbook: str, *arguments: str, limit: str | None = "local", check: bool = True) -> str:
        """The output of a playbook; an AssertionError that shows it when `check` and it failed."""
        done = subprocess.run(self.command(playbook, *arguments, limit=limit), **self._how(), check=False)
        output: str = done.stdout + done.stderr
        assert not check or done.returncode == 0, output[-6000:]
        assert check or done.returncode, f"{playbook} was expected to fail:\n{output[-3000:]}"
        return output

    def start(self, playbook: str, *arguments: str) -> subprocess.Popen[str]:
        """A playbook that runs on, in a process group of its own."""
        return subprocess.Popen(self.command(playbook, *arguments), start_new_session=True, **self._how())

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
            "https_port": HTTPS_PORT,
            "watch_seconds": 3,
            "env": {"SECRET_KEY": SECRET},
            **changes,
        }
        apps = {"logbook": app, **{name: app | laid_over for name, laid_over in (others or {}).items()}}
        variables = {
            "ansible_host": "127.0.0.1",
            "ansible_port": SSH_PORT,
            "ansible_user": "ops",
            "ansible_ssh_private_key_file": str(self.state / "key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.state / 'known_hosts'}",
            "host_ca_certificates": [name for name in ["/etc/ssl/certs/ca-certificates.crt"] if Path(name).exists()],
            "certificate_ca_fetch_to": str(self.state / "ca.crt"),
            **(settings or {}),
        }
        groups = {
            "local": {"hosts": {self.host.name: variables}, "vars": {"apps": apps}},
            "staging": {"hosts": {"elsewhere": {"ansible_host": "192.0.2.1"}}, "vars": {"apps": apps}},
            "unsorted": {"hosts": {"stray": {"ansible_host": "192.0.2.2"}}, "vars": {"apps": apps}},
        }
        (self.state / "inventory.yml").write_text(yaml.safe_dump(groups))

    def client(self, **values: Any) -> httpx.Client:
        """A client outside of the host that trusts the host's authority."""
        trust = ssl.create_default_context(cafile=self.state / "ca.crt")
        return httpx.Client(base_url=f"https://127.0.0.1:{HTTPS_PORT}", verify=trust, **values)

    def ready(self, name: str = "127.0.0.1") -> dict[str, Any]:
        """What the site of that name answers when it is asked from outside."""
        with self.client() as client:
            headers, server_name = {"Host": name}, {"sni_hostname": name}
            answer = client.get("/health/ready", headers=headers, extensions=server_name)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def status(self, app: str = "logbook") -> dict[str, Any]:
        """What `slipway status --json` says on the host."""
        event = json.loads(self.host.exec("slipway", "status", app, "--json").splitlines()[-1])
        found: dict[str, Any] = event["apps"][0]
        return found

    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.host.exec("cat", "/srv/logbook/journal.jsonl").splitlines()]

    def sha(self, tag: str) -> str:
        return scratch.git(self.repository, "rev-parse", f"{tag}^{{commit}}")

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

    def _how(self) -> dict[str, Any]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "ANSIBLE_NOCOLOR": "true"}
        return {
            "cwd": scratch.PROJECT,
            "env": environment,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "stdin": subprocess.DEVNULL,
            "text": True,
        }


@pytest.fixture(scope="session")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A host as fresh as a new VM, with v1.0.0 and v2.0.0 (one more migration) ready to be deployed."""
    state = tmp_path_factory.mktemp("acceptance")
    host = Host("slipway-acceptance", "13", {SSH_PORT: 22, HTTP_PORT: 80, HTTPS_PORT: 443})
    host.down()  # what an interrupted run left
    made = Controller(host, state)
    scratch.tag(made.repository, "v1.0.0")
    scratch.tag(made.repository, "v2.0.0", OVERLAY)
    public_key = make_key(state / "key")
    host.up()
    host.allow(public_key)
    (state / "known_hosts").write_text(host.known_host_line(SSH_PORT))
    made.declare()
    yield made
    host.down()
