"""The test bench: a host with two apps from one repository, `logbook` for Slipway and `baseline` for the script."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import yaml

from hosts import scratch
from hosts.container_runtime import HostError, run
from hosts.host import USER, Host, make_key

STATE = scratch.PROJECT / ".cache/bench"
SCRIPT = Path(__file__).with_name("script.sh")
SSH_PORT, HTTPS_PORT = 23022, 23443
POLL_SECONDS = 0.02
ORIGIN = "/srv/baseline-origin.git"
# Each app has its own domain, so that both can be reached through the same Nginx.
NAMES = {"logbook": "127.0.0.1", "baseline": "localhost"}

# The body of a write request, and its file on the host for the load generators.
BODY = "/srv/deployment.json"
DEPLOYMENT = {
    "service": "bench",
    "environment": "prod",
    "host": "app1",
    "version": "v1.0.0",
    "commit": "5f2c1d9a7b3e4f60c8d21a9be07f4c6d3a5b8e12",
    "actor": "bench",
}

MIGRATION = '''"""One more table, so that the benchmark has a migration to run."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("{table}", sa.Column("id", sa.BigInteger(), nullable=False))


def downgrade() -> None:
    op.drop_table("{table}")
'''


@dataclass(frozen=True)
class Timed:
    """A command that was run: its seconds, its seconds of processor time with its children, the seconds until the new
    version first answered from outside (None if that was not measured), and its output."""

    seconds: float
    cpu: float
    answered: float | None
    output: str


@dataclass
class Stand:
    """The host, the repository and the inventory. `others` are more hosts, only for logbook, with their SSH ports."""

    host: Host = field(default_factory=lambda: Host("slipway-bench", "13", {SSH_PORT: 22, HTTPS_PORT: 443}))
    others: dict[str, int] = field(default_factory=dict)
    versions: int = 0
    revision: str = "0004"
    token: str = ""

    @property
    def repository(self) -> Path:
        return STATE / "repository"

    def set_up(self) -> None:
        """Create a new host, provision it, and deploy the same first version of both apps."""
        self.host.down()
        shutil.rmtree(STATE, ignore_errors=True)
        STATE.mkdir(parents=True)
        public_key = make_key(STATE / "key")
        self.host.up()
        self.host.allow(public_key)
        self.declare()
        self.play("site.yml")
        self.trust()
        # The repository from which the script fetches. It must belong to the user that fetches, or git refuses it.
        self.host.exec("install", "--directory", "--owner=baseline_build", ORIGIN)
        self._as_builder("git", "init", "--quiet", "--bare", ORIGIN)
        scratch.update(self.repository)
        first = self.version(migration=False)
        for app in NAMES:
            self.deploy(app, first)
        self._open_logbook()

    def _open_logbook(self) -> None:
        """Create a token of the app and a service, and write the body of the requests that record deployments."""
        create = "python -m app.tokens create --name bench --scope write"
        self.token = self.host.exec("slipway", "run", "logbook", "--", *create.split())
        service = {"name": "bench", "repository_url": "https://git.example.com/bench"}
        ask = ["curl", "--silent", "--show-error", "--fail", "--unix-socket", "/srv/logbook/live/http.sock",
               "--json", json.dumps(service), "--header", f"Authorization: Bearer {self.token}"]  # fmt: skip
        self.host.exec(*ask, "http://localhost/api/v1/services")
        self.host.exec("sh", "-c", f"cat > {BODY}", stdin=json.dumps(DEPLOYMENT))

    def declare(self, apps: Iterable[str] = NAMES) -> None:
        """Write the inventory with these apps, and known_hosts."""
        names = {self.host.name: SSH_PORT, **self.others}
        app = {
            "repository": str(self.repository),
            "https_port": HTTPS_PORT,
            "watch_seconds": 0,  # the script has no watch either; see docs/performance.md
            "env": {"SECRET_KEY": "of-the-benchmark-0123456789abcdefghijklmnopqrstuvwxyz"},
        }
        variables = {
            "ansible_host": "127.0.0.1",
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(STATE / "key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={STATE / 'known_hosts'}",
            "apps": {name: {**app, "domains": [NAMES.get(name, f"{name}.example.com")]} for name in apps},
            "host_ca_certificates": [name for name in ["/etc/ssl/certs/ca-certificates.crt"] if Path(name).exists()],
            "host_packages": ["curl", "nghttp2-client", "wrk"],  # curl for the script, and the load generators
            "certificate_ca_fetch_to": f"{STATE}/{{{{ inventory_hostname }}}}.crt",
            "postgresql_shared_buffers_percent": 1,  # up to eight hosts share this machine
        }
        hosts = {name: {"ansible_port": port} for name, port in names.items()}
        (STATE / "inventory.yml").write_text(yaml.safe_dump({"local": {"hosts": hosts, "vars": variables}}))
        # The other hosts are copies of the first one, with the same keys.
        (STATE / "known_hosts").write_text("".join(self.host.known_host_line(port) for port in names.values()))

    def trust(self) -> None:
        """Trust the host's certificate authority in the client outside."""
        shutil.copy(STATE / f"{self.host.name}.crt", STATE / "ca.crt")

    # Versions

    def version(self, *, migration: bool) -> str:
        """Tag one more version, with or without a new migration, also in the script's repository on the host."""
        self.versions += 1
        tag = f"v1.{self.versions}.0"
        (self.repository / "app/version.txt").write_text(f"{tag}\n")
        if migration:
            revision, table = f"{1000 + self.versions}", f"bench_{self.versions}"
            text = MIGRATION.format(revision=revision, before=self.revision, table=table)
            (self.repository / f"app/migrations/versions/{revision}_{table}.py").write_text(text)
            self.revision = revision
        scratch.git(self.repository, "add", "--all")
        scratch.git(self.repository, "commit", "--quiet", "--message", tag)
        scratch.git(self.repository, "tag", "--annotate", tag, "--message", tag)
        # With the script a developer pushes the tag. That is not measured.
        bundle = STATE / "tag.bundle"
        scratch.git(self.repository, "bundle", "create", "--quiet", str(bundle), tag)
        run("docker", "cp", "--quiet", bundle, f"{self.host.name}:/srv/{tag}.bundle")
        self._as_builder("git", "-C", ORIGIN, "fetch", "--quiet", f"/srv/{tag}.bundle", "+refs/*:refs/*")
        self.host.exec("rm", f"/srv/{tag}.bundle")
        return tag

    def sha(self, tag: str) -> str:
        return scratch.git(self.repository, "rev-parse", f"{tag}^{{commit}}")

    def _as_builder(self, *command: str) -> None:
        self.host.exec("runuser", "--user", "baseline_build", "--", *command)

    # What is measured

    def deploy(self, app: str, tag: str) -> Timed:
        """Deploy a version, with Slipway or with the script."""
        if app == "baseline":
            return self.script("deploy", tag, expected=tag)
        return self.play("deploy.yml", "-e", "app=logbook", "-e", f"version={tag}", expected=tag)

    def roll_back(self, app: str, tag: str) -> Timed:
        """Roll back to a version, with Slipway or with the script."""
        if app == "baseline":
            return self.script("rollback", expected=tag)
        return self.play("rollback.yml", "-e", "app=logbook", "-e", f"version={tag}", expected=tag)

    def engine(self, command: str, expected: str | None = None) -> Timed:
        """Run a command of the engine over SSH, like an operator without a controller."""
        return self._time(self.ssh("sudo", "slipway", *command.split()), "logbook", expected, directory=STATE)

    def play(self, playbook: str, *arguments: str, limit: str = "", expected: str | None = None) -> Timed:
        """Run a playbook as an operator would, from the root of the repository."""
        program = Path(sys.executable).with_name("ansible-playbook")
        limit = limit or self.host.name
        command = [str(program), "-i", str(STATE / "inventory.yml"), playbook, "-l", limit, *arguments]
        return self._time(command, "logbook", expected, directory=scratch.PROJECT)

    def script(self, *arguments: str, expected: str) -> Timed:
        """Run the script over SSH, as one command."""
        command = self.ssh("sudo", "bash", "-s", *arguments)
        return self._time(command, "baseline", expected, directory=STATE, stdin=SCRIPT)

    def ssh(self, *command: str) -> list[str]:
        """The ssh command for a command on the host; like Ansible it keeps the connection. Run it in STATE."""
        return ["ssh", "-i", "key", "-p", str(SSH_PORT), "-o", "UserKnownHostsFile=known_hosts",
                "-o", "ControlMaster=auto", "-o", "ControlPath=%C", "-o", "ControlPersist=60s",
                f"{USER}@127.0.0.1", *command]  # fmt: skip

    def _time(
        self, command: list[str], app: str, expected: str | None, directory: Path, stdin: Path | None = None
    ) -> Timed:
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "true"}
        log = STATE / "last.log"
        with (
            (stdin or Path(os.devnull)).open("rb") as given,
            log.open("wb") as output,
            self._watching(app, expected) as seen,
        ):
            started = time.monotonic()
            process = subprocess.Popen(
                command, cwd=directory, env=environment, stdin=given, stdout=output, stderr=subprocess.STDOUT
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - started
        text = log.read_text(errors="replace")
        if process.returncode != 0:
            raise HostError(f"'{' '.join(command[:5])} ...' failed:\n{text[-3000:]}")
        answered = seen[0] - started if seen else None
        return Timed(seconds, usage.ru_utime + usage.ru_stime, answered, text)

    @contextmanager
    def _watching(self, app: str, expected: str | None) -> Iterator[list[float]]:
        """Poll the site from outside. The list gets the time when the version `expected` first answers."""
        seen: list[float] = []
        if expected is None:
            yield seen
            return
        over = threading.Event()

        def ask() -> None:
            headers, server_name = {"Host": NAMES[app]}, {"sni_hostname": NAMES[app]}
            with httpx.Client(base_url=f"https://127.0.0.1:{HTTPS_PORT}", verify=self._trust, timeout=10) as client:
                while not over.wait(POLL_SECONDS) and not seen:
                    answer = client.get("/health/ready", headers=headers, extensions=server_name)
                    if answer.status_code == 200 and answer.json()["release"] == expected:
                        seen.append(time.monotonic())

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield seen
            thread.join(timeout=2)
        finally:
            over.set()
            thread.join()

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=STATE / "ca.crt")

    # What the host knows

    def slots(self) -> dict[str, bool]:
        """The slots of logbook, and which of them is live."""
        live = Path(self.host.exec("readlink", "/srv/logbook/live")).name
        return {slot: slot == live for slot in ("blue", "green")}

    def memory(self, slot: str) -> float:
        """MB of memory that the processes of a slot have: what they share with others counts in part (Pss)."""
        ask = ("main=$(systemctl show --property=MainPID --value $0); cd /proc; "
               "for pid in $main $(cat $main/task/*/children); do grep ^Pss: $pid/smaps_rollup; done")  # fmt: skip
        lines = self.host.exec("sh", "-c", ask, f"logbook@{slot}.service").splitlines()
        return sum(int(line.split()[1]) for line in lines) / 1024

    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.host.exec("cat", "/srv/logbook/journal.jsonl").splitlines()]
