"""The host's own MariaDB, as the engine asks it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from slipway.base import process
from slipway.base.errors import FailedError
from slipway.base.settings import Settings
from slipway.schema import mariadb, roles
from slipway.slot import envfile

from .fakes import Host

URL = "mysql+asyncmy://logbook@localhost/logbook?unix_socket=/run/mysqld/mysqld.sock"
PASSWORDS = {"logbook": "SLIPWAY_DATABASE_PASSWORD"}
Calls = list[tuple[list[str], str | None, Mapping[str, str], str]]


class Server:
    """Answers in the place of the client `mariadb`."""

    def __init__(self, code: int = 0, answer: str = "1\n") -> None:
        self.code, self.answer = code, answer
        self.calls: Calls = []

    def run(self, command: list[str], **given: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append((command, given.get("user"), given.get("environment") or {}, given.get("given", "")))
        return subprocess.CompletedProcess(command, self.code, self.answer if self.code == 0 else "", "Access denied")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()
    monkeypatch.setattr(process, "run", found.run)
    return found


def settled(host: Host, variable: str = "", **changes: Any) -> Settings:
    changed = replace(host.settings, database="mysql", database_parts={}, **changes)
    changed.env_file.write_text(f'{changed.database_url or "OTHER"}="{variable}"\n')
    return changed


def test_the_app_is_asked_for_over_the_socket_as_itself(host: Host, server: Server) -> None:
    settings = settled(host, URL)
    mariadb.check(settings)
    ((command, user, variables, _),) = server.calls
    assert user == settings.user
    assert "--socket=/run/mysqld/mysqld.sock" in command
    assert command[-1] == settings.app
    assert variables == {}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host has made the password."""
    monkeypatch.setattr(envfile, "of_host", lambda _: {"SLIPWAY_DATABASE_PASSWORD": "s3cret-of-the-host"})


@pytest.mark.usefixtures("made")
def test_over_tcp_the_password_is_no_argument(host: Host, server: Server) -> None:
    settings = settled(host, database_passwords=PASSWORDS)
    mariadb.check(settings)
    assert len(server.calls) == 2
    command, _, variables, _ = server.calls[1]
    assert "--host=127.0.0.1" in command
    assert variables == {"MYSQL_PWD": "s3cret-of-the-host"}
    assert "s3cret" not in " ".join(command)


@pytest.mark.parametrize(("code", "answer"), [(1, ""), (0, ""), (0, "2\n")])
def test_no_answer_is_never_a_pass(host: Host, server: Server, code: int, answer: str) -> None:
    server.code, server.answer = code, answer
    with pytest.raises(FailedError, match="MariaDB on the host does not answer"):
        mariadb.check(settled(host, URL))


def test_without_its_password_nothing_is_deployed(host: Host, server: Server) -> None:
    with pytest.raises(FailedError, match=r"has no password for .* yet\. Run site\.yml"):
        mariadb.check(settled(host, database_passwords=PASSWORDS))
    assert server.calls == []


def test_a_server_elsewhere_is_not_asked(host: Host, server: Server) -> None:
    mariadb.check(settled(host, "mysql+asyncmy://me:x@db.example.com/shop"))
    assert server.calls == []


def test_what_mariadb_keeps_of_a_password() -> None:
    # SELECT PASSWORD('password')
    assert mariadb.kept("password") == "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"


@pytest.mark.usefixtures("made")
def test_a_user_gets_the_password_that_the_host_has_made_and_only_once(host: Host, server: Server) -> None:
    settings = settled(host, database_passwords=PASSWORDS)
    server.answer = "logbook\tinvalid\n"
    assert roles.give_passwords(settings) == ["logbook"]
    told = server.calls[1][3]
    assert "ALTER USER 'logbook'@'127.0.0.1' IDENTIFIED VIA mysql_native_password USING '*" in told
    assert "s3cret" not in told
    server.answer = f"logbook\t{mariadb.kept('s3cret-of-the-host')}\n"
    assert roles.give_passwords(settings) == []


@pytest.mark.usefixtures("made")
def test_a_user_that_is_not_there_is_said(host: Host, server: Server) -> None:
    settings = settled(host, database_passwords=PASSWORDS)
    server.answer = "other\t*AB\n"
    with pytest.raises(FailedError, match=r"MariaDB has no user logbook for 127\.0\.0\.1\. Run site\.yml\."):
        roles.give_passwords(settings)
