"""The host's own MariaDB: whether it answers an app, and the passwords of users that come over TCP."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from slipway.base import process
from slipway.base.errors import FailedError
from slipway.base.settings import Settings
from slipway.slot import envfile

SOCKET = "/run/mysqld/mysqld.sock"
TCP_HOST = "127.0.0.1"
_CLIENT = ("mariadb", "--no-defaults", "--batch", "--skip-column-names", "--connect-timeout=10")


def is_own(settings: Settings, environment: Mapping[str, str]) -> bool:
    """Whether the app's database is in the host's own MariaDB, which site.yml has prepared for it."""
    if settings.database != "mysql":
        return False
    return bool(settings.database_passwords) or f"unix_socket={SOCKET}" in environment.get(settings.database_url, "")


def check(settings: Settings) -> None:
    """FailedError, in one sentence, when the host's own MariaDB does not let the app in as it will come."""
    if not is_own(settings, envfile.of_migrations(settings)):
        return
    ways: list[tuple[Sequence[str], dict[str, str]]] = [([f"--socket={SOCKET}"], {})]
    known = envfile.of_host(settings)
    for name in settings.database_passwords.values():
        if name not in known:
            raise FailedError(f"MariaDB has no password for {settings.user} yet. Run site.yml.")
        ways.append((["--protocol=tcp", f"--host={TCP_HOST}"], {"MYSQL_PWD": known[name]}))
    for options, variables in ways:
        command = [*_CLIENT, f"--user={settings.user}", *options, "--execute=SELECT 1", settings.app]
        result = process.run(command, user=settings.user, environment=variables, timeout=30)
        if result.returncode != 0 or result.stdout.strip() != "1":
            raise FailedError(
                f"MariaDB on the host does not answer {settings.user}. Run site.yml, or look at "
                "`systemctl status mariadb`.",
                process.tail(result.stderr, 5),
            )


def kept(password: str) -> str:
    """What MariaDB keeps of a password, so that the password itself is in no statement and no log of it."""
    once = hashlib.sha1(password.encode()).digest()  # noqa: S324  # MariaDB's way; the passwords are random and long
    return f"*{hashlib.sha1(once).hexdigest().upper()}"  # noqa: S324  # as above: MariaDB's way


def give_passwords(wanted: Mapping[str, str]) -> list[str]:
    """Give the users of the loopback address their passwords; the users that had another one, or none."""
    rows = ask(
        "SELECT User, JSON_VALUE(Priv, '$.authentication_string') FROM mysql.global_priv "  # noqa: S608  # TCP_HOST is a constant
        f"WHERE Host = '{TCP_HOST}';"
    )
    known = {user: text for user, _, text in (row.partition("\t") for row in rows.splitlines())}
    if absent := [user for user in wanted if user not in known]:
        raise FailedError(f"MariaDB has no user {absent[0]} for {TCP_HOST}. Run site.yml.")
    other = [user for user, password in wanted.items() if known[user] != kept(password)]
    if other:  # names of apps, and with them of users, have no quotes
        ask(
            "".join(
                f"ALTER USER '{user}'@'{TCP_HOST}' IDENTIFIED VIA mysql_native_password USING '{kept(wanted[user])}';"
                for user in other
            )
        )
    return other


def ask(statements: str) -> str:
    """What root is answered: a row per line, with tabs between columns. FailedError with the server's message."""
    result = process.run([*_CLIENT, "--user=root", f"--socket={SOCKET}"], given=statements, timeout=60)
    if result.returncode != 0:
        raise FailedError(
            "MariaDB on the host does not answer root. Look at `systemctl status mariadb`.",
            process.tail(result.stderr, 5),
        )
    return result.stdout
