"""What the host's MariaDB has to be told, so that each app has its database and its user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

SOCKET_HOST = "localhost"  # what MariaDB calls a client of its unix socket
TCP_HOST = "127.0.0.1"
_UNLOCKED = ("0", "false", "NULL")


def statements(databases: Sequence[Mapping[str, Any]], lines: Iterable[str]) -> list[str]:
    """The statements that are missing; `lines` is what the server has, with tabs.

    They are `database NAME`, `user NAME HOST PLUGIN LIMIT LOCKED` and `rights NAME HOST DATABASE`. Names of apps have
    no quotes, and none of the signs that stand for others in a GRANT. The password of a user of TCP is given by the
    engine; until then nobody has it.
    """
    has: dict[tuple[str, ...], tuple[str, ...]] = {}
    for line in lines:
        word, *rest = line.split("\t")
        known = 1 if word == "database" else 2 if word == "user" else 3
        has[(word, *rest[:known])] = tuple(rest[known:])
    return [statement for database in databases for statement in _of_one(database, has)]


def _of_one(database: Mapping[str, Any], has: Mapping[tuple[str, ...], tuple[str, ...]]) -> Iterator[str]:
    name, limit = database["name"], str(database["limit"])
    if ("database", name) not in has:
        yield f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;"
    hosts = (SOCKET_HOST, TCP_HOST) if database.get("tcp") else (SOCKET_HOST,)
    for host in hosts:
        user = f"'{name}'@'{host}'"
        plugin, most, locked = has.get(("user", name, host), ("", "", ""))
        if not plugin:
            how = "unix_socket" if host == SOCKET_HOST else "mysql_native_password USING 'invalid'"
            yield f"CREATE USER {user} IDENTIFIED VIA {how} WITH MAX_USER_CONNECTIONS {limit};"
        elif host == SOCKET_HOST and plugin != "unix_socket":
            yield f"ALTER USER {user} IDENTIFIED VIA unix_socket WITH MAX_USER_CONNECTIONS {limit} ACCOUNT UNLOCK;"
        elif most != limit or locked not in _UNLOCKED:
            yield f"ALTER USER {user} WITH MAX_USER_CONNECTIONS {limit} ACCOUNT UNLOCK;"
        if ("rights", name, host, name) not in has:
            yield f"GRANT ALL PRIVILEGES ON `{name}`.* TO {user};"
    if TCP_HOST not in hosts and ("user", name, TCP_HOST) in has:
        yield f"DROP USER '{name}'@'{TCP_HOST}';"


class FilterModule:
    """Makes it known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"mariadb_statements": statements}
