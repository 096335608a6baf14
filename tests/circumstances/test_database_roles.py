"""Passwords and owners of the roles of a database on the host, on a real PostgreSQL."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hosts import postgresql
from hosts.scratch import PROJECT
from slipway.base import process
from slipway.base import settings as config
from slipway.base.errors import FailedError
from slipway.schema import database, roles
from slipway.slot import envfile
from tests.app.conftest import Server, server
from tests.engine.conftest import settings

from .test_runtime_role import APP, MIGRATE, OWNER, Shop, _shop

__all__ = ["server", "settings"]


def test_a_verifier_is_that_of_its_password_alone() -> None:
    made = roles.verifier("s3cret", b"0123456789abcdef")
    assert roles.is_of("s3cret", made)
    assert not roles.is_of("other", made)
    assert not roles.is_of("s3cret", "")
    assert "s3cret" not in made


@pytest.fixture
def tcp() -> Iterator[tuple[Server, int]]:
    """A server that also listens on the loopback address, and asks for passwords there."""
    programs = postgresql.programs()
    if programs is None:
        pytest.skip("needs PostgreSQL")
    directory = Path(tempfile.mkdtemp(prefix="slipway-tcp-"))  # a short path, as that of a socket has to be
    made = Server(directory, programs)
    made.initialise()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (directory / "data/pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    options = f"-k {directory} -c listen_addresses='127.0.0.1' -c port={port} -c fsync=off"
    made._control("start", f"--log={directory / 'log'}", f"--options={options}")
    yield made, port
    made.stop()
    shutil.rmtree(directory)


def test_the_password_that_the_host_made_opens_the_database_over_tcp(
    tcp: tuple[Server, int], settings: config.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, port = tcp
    monkeypatch.setattr(config, "SETTINGS_DIRECTORY", tmp_path)
    monkeypatch.setattr(database, "PROGRAMS", Path("/nowhere"))
    run = process.run

    def as_superuser(command: list[str], **given: object) -> object:
        if given.get("user") == "postgres":
            place = {"PGHOST": str(made.directory), "PGPORT": str(port), "PGUSER": "logbook", "PGDATABASE": "postgres"}
            given |= {"user": settings.user, "environment": place}
        return run(command, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "run", as_superuser)
    asking = replace(
        settings,
        host_secrets=["SLIPWAY_DATABASE_PASSWORD"],
        database_passwords={"shop": "SLIPWAY_DATABASE_PASSWORD"},
        filled_env={"DATABASE_URL": f"postgresql://shop:{{SLIPWAY_DATABASE_PASSWORD}}@127.0.0.1:{port}/postgres"},
    )
    asking.generated_env_file.write_text('SLIPWAY_DATABASE_PASSWORD="first-p4ssword"\n')
    asking.env_file.write_text("")
    with pytest.raises(FailedError, match="has no role shop"):
        roles.give_passwords(asking)
    made._run("createuser", f"--host={made.directory}", f"--port={port}", "--username=logbook", "shop")
    assert roles.give_passwords(asking) == ["shop"]
    assert roles.give_passwords(asking) == [], "a second run changes nothing"

    database.check(asking, envfile.of_app(asking))
    wrong = {"DATABASE_URL": f"postgresql://shop:wr0ng@127.0.0.1:{port}/postgres"}
    with pytest.raises(FailedError, match=r"PostgreSQL at 127.0.0.1 refuses the password of role shop\.") as refused:
        database.check(asking, wrong)
    assert "wr0ng" not in f"{refused.value} {refused.value.detail}"
    with pytest.raises(FailedError, match=r"PostgreSQL at 127.0.0.1 does not answer\."):
        database.check(asking, {"DATABASE_URL": "postgresql://shop:x@127.0.0.1:1/postgres"})


def test_an_app_that_makes_its_own_tables_owns_what_was_there(server: Server) -> None:
    shop: Shop = _shop(server)
    shop.provision()
    assert shop.ask(MIGRATE, "CREATE TABLE kept (id int)") == (0, "")
    script = (PROJECT / "roles/postgresql/files/the_apps_own.sql").read_text()
    variables = {"app": APP, "owner": OWNER}
    code, needed = shop.ask("logbook", script, variables=variables)
    assert (code, needed) == (0, f"REASSIGN OWNED BY {OWNER} TO {APP};")
    assert shop.ask("logbook", f"ALTER DATABASE {shop.name} OWNER TO {APP}", needed) == (0, "")
    assert shop.ask("logbook", script, variables=variables) == (0, ""), "a second run changes nothing"
    assert shop.ask(APP, "CREATE TABLE own (id int); ALTER TABLE kept ADD more int; INSERT INTO own VALUES (1)") == (
        0,
        "",
    )
    # And back: the app goes on using its tables, and changes them no more.
    back = f"ALTER DATABASE {shop.name} OWNER TO {OWNER}; GRANT CONNECT ON DATABASE {shop.name} TO {APP}"
    assert shop.ask("logbook", back)[0] == 0
    assert any("REASSIGN" in line for line in shop.provision())
    assert shop.provision() == []
    assert shop.ask(APP, "INSERT INTO own VALUES (2); SELECT count(*) FROM own") == (0, "2")
    assert "must be owner" in shop.ask(APP, "DROP TABLE own")[1]
