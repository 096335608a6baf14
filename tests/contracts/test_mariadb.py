"""What the host's MariaDB is told for its apps, and how they reach it."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from filter_plugins import apps
from roles.mariadb.filter_plugins.mariadb_users import statements
from tests.templates import render

SHOP = {"name": "shop", "connections": 23, "limit": 25, "tcp": False}
READY = [
    "database\tmysql",
    "database\tshop",
    "user\troot\tlocalhost\tmysql_native_password\t0\t0",
    "user\tshop\tlocalhost\tunix_socket\t25\t0",
    "rights\tshop\tlocalhost\tshop",
]
TCP = ["user\tshop\t127.0.0.1\tmysql_native_password\t25\t0", "rights\tshop\t127.0.0.1\tshop"]


def settled(**declared: Any) -> dict[str, Any]:
    return apps.settings({"logbook": {**render.APP, **declared}})["logbook"]


def facts(**declared: Any) -> dict[str, Any]:
    return tomllib.loads(render.render("app", "app.toml.j2", declared))


def test_a_fresh_server_gets_a_database_and_a_user_without_a_password() -> None:
    assert statements([SHOP], READY[:1]) == [
        "CREATE DATABASE `shop` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;",
        "CREATE USER 'shop'@'localhost' IDENTIFIED VIA unix_socket WITH MAX_USER_CONNECTIONS 25;",
        "GRANT ALL PRIVILEGES ON `shop`.* TO 'shop'@'localhost';",
    ]


def test_a_user_of_tcp_has_no_password_until_the_host_has_made_one() -> None:
    assert statements([SHOP | {"tcp": True}], READY) == [
        "CREATE USER 'shop'@'127.0.0.1' IDENTIFIED VIA mysql_native_password USING 'invalid' "
        "WITH MAX_USER_CONNECTIONS 25;",
        "GRANT ALL PRIVILEGES ON `shop`.* TO 'shop'@'127.0.0.1';",
    ]


@pytest.mark.parametrize(("tcp", "lines"), [(False, READY), (True, READY + TCP)])
def test_a_server_that_has_all_is_told_nothing(tcp: bool, lines: list[str]) -> None:
    assert statements([SHOP | {"tcp": tcp}], lines) == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("unix_socket\t25\t0", "unix_socket\t10\t0", "ALTER USER 'shop'@'localhost' WITH MAX_USER_CONNECTIONS 25"),
        ("unix_socket\t25\t0", "unix_socket\t25\t1", "ACCOUNT UNLOCK"),
        ("unix_socket\t25\t0", "unix_socket\t25\ttrue", "ACCOUNT UNLOCK"),
        ("unix_socket\t25\t0", "ed25519\t25\t0", "IDENTIFIED VIA unix_socket"),
        ("rights\tshop\tlocalhost\tshop", "rights\tother\tlocalhost\tshop", "GRANT ALL PRIVILEGES ON `shop`.*"),
    ],
)
def test_what_differs_is_put_right(before: str, after: str, told: str) -> None:
    (statement,) = statements([SHOP], [line.replace(before, after) for line in READY])
    assert told in statement


def test_a_user_of_tcp_goes_with_the_wish_for_it() -> None:
    assert statements([SHOP], READY + TCP) == ["DROP USER 'shop'@'127.0.0.1';"]


def test_an_app_gets_the_socket_in_its_url() -> None:
    known = render.variables("app", {"database": {"kind": "mariadb", "scheme": "mysql+asyncmy"}})
    env = render.evaluate("{{ __app_env }}", **known)
    assert env["DATABASE_URL"] == "mysql+asyncmy://logbook@localhost/logbook?unix_socket=/run/mysqld/mysqld.sock"
    found = facts(database={"kind": "mariadb", "scheme": "mysql+asyncmy"})
    assert (found["database"], found["network"], found["filled_env"]) == ("mysql", "none", {})


def test_an_app_that_reads_the_parts_comes_over_tcp_by_a_password_of_the_host() -> None:
    parts = {"host": "DB_HOST", "port": "DB_PORT", "user": "DB_USER", "password": "DB_PASSWORD", "name": "DB_NAME"}
    found = facts(database={"kind": "mariadb", **parts})
    assert found["filled_env"] == {
        "DB_HOST": "127.0.0.1",
        "DB_PORT": "3306",
        "DB_USER": "logbook",
        "DB_PASSWORD": "{SLIPWAY_DATABASE_PASSWORD}",
        "DB_NAME": "logbook",
    }
    assert found["database_passwords"] == {"logbook": "SLIPWAY_DATABASE_PASSWORD"}
    assert found["network"] == "loopback"
    rules = render.render("access", "firewall.nft.j2", {"database": {"kind": "mariadb", **parts}})
    assert 'oifname "lo" tcp dport { 3306 } accept' in rules


def test_a_url_over_tcp_has_the_password_and_the_port() -> None:
    found = facts(database={"kind": "mariadb", "scheme": "mysql", "tcp": True})
    assert found["filled_env"] == {"DATABASE_URL": "mysql://logbook:{SLIPWAY_DATABASE_PASSWORD}@127.0.0.1:3306/logbook"}


def test_no_postgresql_is_made_for_it_and_connections_are_counted() -> None:
    whole = {"logbook": settled(database={"kind": "mariadb", "connections": 12})}
    assert apps.databases(whole, 2) == []
    assert apps.mariadb(whole, 2) == [{"name": "logbook", "connections": 12, "limit": 12, "tcp": False}]


def test_the_url_of_the_hosts_own_database_is_not_set_by_hand() -> None:
    settings = settled(database="mariadb", env={"SECRET_KEY": "x", "DATABASE_URL": "mysql://x@localhost/y"})
    found = apps.checks({"logbook": settings | {"database": settings["database"] | {"kind": "mariadb"}}}, "prod")
    assert any(sentence.startswith("apps.logbook.env.DATABASE_URL is one of the variables") for sentence in found)


def test_the_units_start_after_it_and_it_listens_only_where_an_app_wants_that() -> None:
    unit = render.render("app", "app@.service.j2", {"database": "mariadb"})
    assert "After=mariadb.service" in unit
    assert "mariadb" not in render.render("app", "app@.service.j2", {})
    with_tcp = render.render("mariadb", "90-slipway.cnf.j2", {"database": {"kind": "mariadb", "tcp": True}})
    assert "bind_address = 127.0.0.1" in with_tcp
    without = render.render("mariadb", "90-slipway.cnf.j2", {"database": {"kind": "mariadb"}})
    assert "skip_networking = ON" in without
    assert "bind_address" not in without
