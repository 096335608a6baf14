"""docs/your-app.md and docs/migrating.md, typed on a host: every command of both that wants one.

What is replaced are addresses, and the certificate of Let's Encrypt, which tests/acceptance/test_tls.py has. The last
tests of the suite: their inventory is another one than that of the seven apps.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from hosts import scratch
from tests import guides

from . import shapes
from .site import Environment

REACHED = "203.0.113.7"
BUNDLE = [Path("/etc/ssl/certs/ca-certificates.crt")]
# The entry of the app that moves in the second page, beside the one of the first.
MOVED = """
  moved:
    repository: git@git.example.com:me/orders.git
    domains: [orders.example.com]
    module: orders.main:app
    health: /health
    database:
      {host: POSTGRES_SERVER, port: POSTGRES_PORT, user: POSTGRES_USER, password: POSTGRES_PASSWORD, name: POSTGRES_DB}
"""


@dataclass(frozen=True)
class Reader:
    """Somebody who types what a page says, in a clone of this work tree."""

    environment: Environment
    home: Path

    @property
    def clone(self) -> Path:
        return self.home / "slipway"

    @property
    def address(self) -> str:
        """The host's own, as a machine that was bought has one."""
        return self.environment.host.exec("hostname", "--all-ip-addresses").split()[0]

    def meant(self, text: str) -> str:
        """What a page says, for the host and the repositories that there are here."""
        for said, meant in (
            (REACHED, self.address),
            ("https://git.example.com/slipway.git", str(self.home / "slipway.git")),
            ("git@git.example.com:me/", f"{self.home}/"),
            ("tls: {provider: acme, email: me@example.com}", "tls: {provider: self_signed}"),
        ):
            text = text.replace(said, meant)
        return text

    def types(self, *commands: str) -> str:
        """The output of commands, typed one after another; AssertionError where one fails."""
        path = f"{self.home / 'bin'}:{scratch.PROJECT / '.venv/bin'}:{os.environ['PATH']}"
        old = {"OLD_DATABASE_URL": "postgresql:///old?host=/run/postgresql", "CURL_HOME": str(self.home)}
        done = subprocess.run(
            ["bash", "-c", "set -ex\n" + "\n".join(map(self.meant, commands))],
            cwd=self.clone if self.clone.exists() else self.home,
            env={**os.environ, **old, "PATH": path, "ANSIBLE_NOCOLOR": "true"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def writes(self, file: str, text: str) -> None:
        (self.clone / file).write_text(self.meant(text))


@pytest.fixture(scope="module")
def reader(environments: dict[str, Environment]) -> Iterator[Reader]:
    """With the machine as it was bought: a user `debian`, who may use sudo, and the reader's key."""
    environment = environments["staging"]
    home = environment.state / "reader"
    shutil.rmtree(home, ignore_errors=True)
    made = Reader(environment, home)
    (home / "bin").mkdir(parents=True)
    _let_in(environment)
    _answer(made)
    scratch.update(home / "slipway.git")
    for name in ("shop", "orders"):
        _bare(shapes.SHAPES / "orders", home / f"{name}.git", tags=name == "orders")
    for name in ("orders", "notices", "album", "ticker"):
        shutil.copytree(environment.repositories / name, home / name)
    yield made
    shutil.rmtree(home, ignore_errors=True)


def _let_in(environment: Environment) -> None:
    environment.sh(
        "id debian 2>/dev/null || useradd --create-home --shell /bin/bash debian\n"
        "echo 'debian ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/debian\n"
        "cp -r /home/ops/.ssh /home/debian/; chown -R debian:debian /home/debian/.ssh"
    )


def _answer(reader: Reader) -> None:
    """ssh with the reader's key and known hosts, and curl with the authority and the names of the host."""
    environment, address = reader.environment, reader.address
    known = reader.home / "known_hosts"
    known.write_text(environment.host.known_host_line(22).replace("[127.0.0.1]:22", address))
    ssh = reader.home / "bin/ssh"
    options = ["-i", str(environment.state / "key"), "-o", f"UserKnownHostsFile={known}"]
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {shlex.join(options)} "$@"\n')
    ssh.chmod(0o755)
    names = "".join(f'resolve = "{name}.example.com:443:{address}"\n' for name in ("shop", "orders"))
    (reader.home / ".curlrc").write_text(f'cacert = "{environment.authority}"\n{names}')


def _bare(source: Path, repository: Path, *, tags: bool) -> None:
    tree = repository.with_suffix(".tree")
    shutil.copytree(source, tree)
    scratch.git(tree, "init", "--quiet", "--initial-branch=main")
    scratch.git(tree, "add", "--all", "--force")
    scratch.git(tree, "commit", "--quiet", "--message", "An app")
    if tags:
        scratch.git(tree, "tag", "--annotate", shapes.FIRST, "--message", shapes.FIRST)
    subprocess.run(["git", "clone", "--quiet", "--bare", str(tree), str(repository)], check=True)


def test_your_app_in_ten_minutes(reader: Reader) -> None:
    said: dict[str, str] = {}
    for block in guides.blocks("your-app"):
        if block.file:
            reader.writes(block.file, block.text)
        elif block.heading.startswith("2"):
            clone, _, tools, activate = block.commands
            reader.types(clone)
            (reader.clone / ".venv").symlink_to(scratch.PROJECT / ".venv")
            (reader.clone / ".tools").symlink_to(scratch.PROJECT / ".tools")
            for name in ("pyproject.toml", "uv.lock", "hosts/uv.txt"):  # they are those of the virtualenv that is here
                os.utime(reader.clone / name, (0, 0))
            # As in docs/operating.md, where a proxy signs TLS anew; and curl is told whom to trust.
            trusted = {"host_ca_certificates": [str(path) for path in BUNDLE if path.exists()]}
            more = {**trusted, "certificate_ca_fetch_to": str(reader.environment.authority)}
            (reader.clone / "inventories/prod/group_vars/prod/here.yml").write_text(yaml.safe_dump(more))
            reader.types(tools, activate)
        else:
            for command in block.commands:
                said[command] = reader.types(command)
    assert '"ok":true' in said["curl --fail https://shop.example.com/health"]
    assert "v1.0.0" in said["ansible-playbook status.yml -l prod"]  # after the rollback
    inspected = next(output for command, output in said.items() if command.startswith("make new-app"))
    assert "orders.main:app" in inspected


def test_an_app_moves_here_with_its_data(reader: Reader) -> None:
    """From a database with rows, dumped as the page says, and a directory with a file."""
    inventory = reader.clone / "inventories/prod/group_vars/prod/main.yml"
    inventory.write_text(inventory.read_text() + reader.meant(MOVED))
    assert set(yaml.safe_load(inventory.read_text())["apps"]) == {"shop", "moved"}
    (reader.home / "album/uploads/moved.txt").write_text("moved")
    commands = [command.replace("orders", "moved") for command in guides.commands("migrating")]
    commands = [command.replace("moved.example", "orders.example") for command in commands]
    host = reader.environment.host
    for command in commands:
        if command.startswith("make new-app"):
            continue  # tests/contracts/test_guides.py
        if command.startswith("pg_dump"):  # of the place that is left, which has PostgreSQL's programs of its own
            _old_database(reader)
            script = command.replace('"$OLD_DATABASE_URL"', "old").partition(" > ")[0]
            host.exec("sh", "-c", f"cd /; runuser -u postgres -- {script} > /tmp/moved.dump")
            (reader.clone / "moved.dump").write_bytes(_bytes(reader, "/tmp/moved.dump"))  # noqa: S108  # on the host
            continue
        output = reader.types(command)
        if command.startswith("curl"):
            assert '"ok":true' in output
    assert (
        host.exec("runuser", "-u", "postgres", "--", "psql", "-tAd", "moved", "-c", "SELECT count(*) FROM job") == "3"
    )
    found = host.exec("stat", "--format=%U", "/var/lib/album/data/uploads/moved.txt")
    assert found.strip() == "album"


def _old_database(reader: Reader) -> None:
    """The database of an app elsewhere: migrated to the first revision, with three rows."""
    script = (
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);"
        "INSERT INTO alembic_version VALUES ('0001');"
        "CREATE TABLE job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, seconds double precision NOT NULL,"
        " attempts integer NOT NULL DEFAULT 0, taken_by text, done_by text);"
        "INSERT INTO job (seconds) VALUES (0), (0), (0)"
    )
    reader.environment.sh("cd /; runuser -u postgres -- createdb old")
    reader.environment.host.exec("runuser", "-u", "postgres", "--", "psql", "-qd", "old", "-c", script)


def _bytes(reader: Reader, path: str) -> bytes:
    command = ["docker", "exec", reader.environment.host.name, "cat", path]
    return subprocess.run(command, capture_output=True, check=True).stdout
