"""A host for the app and one for its database, which is PostgreSQL with TLS, as an administrator would set it up."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hosts import scratch
from hosts.host import Host
from tests.controller import SECRET
from tests.faults.conftest import APP
from tests.faults.site import Site

CACHE = scratch.PROJECT / ".cache/external"
NAME = "db.slipway.test"  # the name in the server's certificate
GONE = "gone.slipway.test"  # a host of the URL on which nothing listens
SERVER = Host("slipway-external-db", "13")
HOST = Host("slipway-external", "13", {27022: 22, 27080: 80, 27443: 443})

# Two roles, as on a service that hands a database out: one for the app, one that may change the schema.
SETUP = """\
CREATE ROLE shop_owner LOGIN PASSWORD 'owner-Of-The-Tests';
CREATE ROLE shop_app LOGIN PASSWORD 'app-Of-The-Tests';
CREATE DATABASE shop OWNER shop_owner;
REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT ON DATABASE shop TO shop_app;
\\connect shop
GRANT USAGE ON SCHEMA public TO shop_app;
GRANT CREATE ON SCHEMA public TO shop_owner;
ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO shop_app;
ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner GRANT USAGE ON SEQUENCES TO shop_app;
"""


@dataclass
class Server:
    """The host with PostgreSQL, and the authorities: the one that has signed its certificate, and one that has not."""

    host: Host
    state: Path
    address: str = field(default="")

    def install(self) -> None:
        self.host.up()
        self.host.exec(
            "sh", "-c", "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y postgresql"
        )
        for name in ("right", "wrong"):
            self._authority(name)
        self._certificate()
        for name in ("server.crt", "server.key"):
            target = f"/etc/postgresql/{name}"
            script = f"cat > {target} && chown postgres: {target} && chmod 600 {target}"
            self.host.exec("sh", "-c", script, stdin=(self.state / name).read_text())
        self.sql(
            "ALTER SYSTEM SET listen_addresses = '*'",
            "ALTER SYSTEM SET ssl_cert_file = '/etc/postgresql/server.crt'",
            "ALTER SYSTEM SET ssl_key_file = '/etc/postgresql/server.key'",
        )
        self.sh("echo 'hostssl shop shop_app,shop_owner all scram-sha-256' | tee -a /etc/postgresql/*/main/pg_hba.conf")
        self.sh("systemctl restart postgresql")
        self.host.exec("runuser", "-u", "postgres", "--", "psql", "-qv", "ON_ERROR_STOP=1", stdin=SETUP)
        self.address = self.sh("hostname -I").split()[0]

    def sh(self, script: str) -> str:
        return self.host.exec("sh", "-c", script)

    def sql(self, *statements: str, database: str = "postgres") -> str:
        commands = [part for statement in statements for part in ("-c", statement)]
        return self.host.exec("runuser", "-u", "postgres", "--", "psql", "-tAd", database, *commands)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.state, check=True, capture_output=True)

    def _authority(self, name: str) -> None:
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name} authority",
                      "-keyout", f"{name}.key", "-out", f"{name}.crt")  # fmt: skip

    def _certificate(self) -> None:
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={NAME}", "-addext",
                      f"subjectAltName=DNS:{NAME}", "-keyout", "server.key", "-out", "server.csr")  # fmt: skip
        self._openssl("x509", "-req", "-in", "server.csr", "-days", "30", "-copy_extensions", "copyall",
                      "-CA", "right.crt", "-CAkey", "right.key", "-out", "server.crt")  # fmt: skip


@dataclass
class Shop(Site):
    """The host of the app, which knows the database's host by name."""

    server: Server = field(kw_only=True)

    def url(self, role: str, *, password: str = "", hosts: tuple[str, ...] = (NAME,)) -> str:
        name = {"app": "shop_app", "owner": "shop_owner"}[role]
        account = f"{name}:{password or f'{role}-Of-The-Tests'}"
        if len(hosts) == 1:
            return f"postgresql+asyncpg://{account}@{hosts[0]}:5432/shop"
        return f"postgresql+asyncpg://{account}@/shop?" + "&".join(f"host={host}:5432" for host in hosts)

    def entry(self, authority: str = "right", **urls: str) -> dict[str, object]:
        """The changes of the app's declaration for a database elsewhere."""
        env = {
            "SECRET_KEY": SECRET,
            "DATABASE_URL": urls.get("app") or self.url("app"),
            "MIGRATION_DATABASE_URL": urls.get("owner") or self.url("owner"),
        }
        return {"database": {"kind": "external", "ca": str(self.server.state / f"{authority}.crt")}, "env": env}


@pytest.fixture(scope="session")
def shop() -> Iterator[Shop]:
    """Both hosts, with a good version live. SLIPWAY_KEEP_HOST=1 keeps them for the next run."""
    keep = os.environ.get("SLIPWAY_KEEP_HOST") == "1"
    kept = keep and HOST.exists() and SERVER.exists() and CACHE.exists()
    if not kept:
        _remove()
    CACHE.mkdir(parents=True, exist_ok=True)
    server = Server(SERVER, CACHE)
    if not kept:
        server.install()
    SERVER.up()
    server.address = server.sh("hostname -I").split()[0]
    host = Host(HOST.name, HOST.debian, HOST.ports, flags=(
        "--add-host", f"{NAME}:{server.address}", "--add-host", f"{GONE}:127.0.0.9"
    ))  # fmt: skip
    shop = Shop(host, CACHE / "state", {**APP}, {}, server=server)
    shop.app |= shop.entry()
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
    shutil.rmtree(CACHE, ignore_errors=True)
