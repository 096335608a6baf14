"""A database elsewhere whose certificate is verified in full, by the engine's questions and by asyncpg alike."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from hosts import postgresql
from slipway.base import settings as config
from slipway.base.errors import FailedError
from slipway.schema import database
from tests.app.conftest import Server
from tests.engine.conftest import settings

__all__ = ["settings"]


@dataclass(frozen=True)
class Elsewhere:
    """A server with TLS alone, and the files of its authority and of another one."""

    port: int
    ca: Path
    other: Path

    def variables(self, ca: Path | None = None, host: str = "localhost", password: str = "right") -> dict[str, str]:  # noqa: S107
        return {
            "DATABASE_URL": f"postgresql+asyncpg://shop:{password}@{host}:{self.port}/postgres",
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(ca or self.ca),
        }


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def _authority(directory: Path, name: str) -> Path:
    _openssl(
        directory, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem",
    )  # fmt: skip
    return directory / f"{name}.pem"


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    programs = postgresql.programs()
    if programs is None:
        pytest.skip("needs PostgreSQL")
    directory = Path(tempfile.mkdtemp(prefix="slipway-tls-"))
    directory.chmod(0o755)
    made = Server(directory, programs)
    made.initialise()
    ca, other = _authority(directory, "ca"), _authority(directory, "other")
    _openssl(
        directory, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost", "-keyout", "server.key", "-out", "server.csr",
    )  # fmt: skip
    _openssl(
        directory, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-copy_extensions", "copy", "-out", "server.crt",
    )  # fmt: skip
    if os.geteuid() == 0:
        shutil.chown(directory / "server.key", "nobody")
    (directory / "data/pg_hba.conf").write_text("local all all trust\nhostssl all shop all scram-sha-256\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tls = f"-c ssl=on -c ssl_cert_file={directory}/server.crt -c ssl_key_file={directory}/server.key"
    made._control(
        "start", f"--log={directory / 'log'}",
        f"--options=-k {directory} -c listen_addresses=localhost -c port={port} -c fsync=off {tls}",
    )  # fmt: skip
    where = [f"--host={directory}", f"--port={port}", "--username=logbook", "--dbname=postgres"]
    subprocess.run(
        [programs / "psql", *where, "--command=CREATE ROLE shop LOGIN PASSWORD 'right'"],
        check=True,
        capture_output=True,
    )
    yield Elsewhere(port, ca, other)
    made.stop()
    shutil.rmtree(directory)


def test_engine_and_asyncpg_take_the_same_variables(
    elsewhere: Elsewhere, settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PROGRAMS", Path("/nowhere"))
    given = elsewhere.variables()
    database.check(settings, given)
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    async def ask() -> object:
        connection = await asyncpg.connect(given["DATABASE_URL"].replace("+asyncpg", ""))
        try:
            return await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        finally:
            await connection.close()

    assert asyncio.run(ask()) is True
    monkeypatch.setenv("PGSSLROOTCERT", str(elsewhere.other))
    with pytest.raises(Exception, match="certificate verify failed"):
        asyncio.run(ask())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"ca": "other"}, "has a certificate that the authority in database.ca has not signed."),
        ({"host": "127.0.0.1"}, "has a certificate for another name than that of the host in the URL."),
        ({"password": "wr0ng-one"}, "refuses the password of role shop."),
        ({"ca": "missing"}, "cannot be checked: the file of database.ca is not on the host. Run site.yml."),
        ({"host": "nowhere.invalid"}, "has a name that this host cannot resolve."),
    ],
)
def test_what_is_wrong_is_one_true_sentence(
    elsewhere: Elsewhere,
    settings: config.Settings,
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, str],
    sentence: str,
) -> None:
    monkeypatch.setattr(database, "PROGRAMS", Path("/nowhere"))
    given = elsewhere.variables(host=wrong.get("host", "localhost"), password=wrong.get("password", "right"))
    if "ca" in wrong:
        given["PGSSLROOTCERT"] = str(elsewhere.ca.with_name(f"{wrong['ca']}.pem"))
    with pytest.raises(FailedError) as failed:
        database.check(settings, given)
    assert str(failed.value) == f"PostgreSQL at {wrong.get('host', 'localhost')} {sentence}"
    assert "wr0ng" not in failed.value.detail
