"""A database on another host of the same environment: which hosts are asked, what they say, and who may come in."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from filter_plugins import apps, hosts
from roles.app.filter_plugins import app_settings
from roles.app.module_utils import database, database_host
from roles.postgresql.filter_plugins import passwords
from slipway.schema import roles as engine_roles
from tests.templates import render

ADDRESSES = {"app-1": "192.0.2.11", "app-2": "192.0.2.12", "db-1": "192.0.2.21"}
VARIABLES: dict[str, dict[str, Any]] = {name: {"ansible_host": address} for name, address in ADDRESSES.items()}
GROUPS = {"prod": [*ADDRESSES], "database": ["db-1"]}
ALL = [*ADDRESSES]
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
SAID = "\n".join([
    "SLIPWAY_DATABASE_PASSWORD=aaa", "SLIPWAY_MIGRATION_PASSWORD=bbb", CERTIFICATE, "client 192.0.2.11",
])  # fmt: skip


def whole(**declared: Any) -> dict[str, dict[str, Any]]:
    return apps.settings({"shop": {**render.APP, "required_env": [], "repository": ".", **declared}})


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({"prod": ALL}, "all"),
        (GROUPS, "all:!db-1"),
        ({**GROUPS, "app_hosts": ["app-1", "app-2"]}, "all:!db-1"),
        ({**GROUPS, "app_hosts": ["app-1", "db-1"]}, "all"),
    ],
)
def test_plays_of_apps_go_to_all_but_those_with_databases_alone(groups: dict[str, list[str]], expected: str) -> None:
    assert hosts.pattern(groups, "prod") == expected


def test_a_run_for_a_host_of_databases_alone_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="db-1 is in the group 'database' and not in 'app_hosts'"):
        hosts.pattern(GROUPS, "db-1")


@pytest.mark.parametrize(
    ("on", "variables", "sentence"),
    [
        ("db-2", VARIABLES, "apps.shop.database.on is 'db-2', which is no host of prod. The nearest is 'db-1'."),
        ("mars", VARIABLES, "Write one of app-1, app-2, db-1."),
        (
            "db-1",
            {**VARIABLES, "app-2": {"ansible_host": "127.0.0.1"}},
            "app-2 is reached at 127.0.0.1, which no other",
        ),
        (
            "db-1",
            {**VARIABLES, "db-1": {"internal_address": "no.such.name.invalid"}},
            "which this machine cannot resolve",
        ),
    ],
)
def test_a_wrong_host_is_one_sentence(on: str, variables: dict[str, dict[str, Any]], sentence: str) -> None:
    (found,) = hosts.faults(whole(database={"on": on}), ALL, GROUPS, variables, "prod")
    assert sentence in found


def test_yaml_takes_the_key_for_a_yes() -> None:
    declared = yaml.safe_load("database: {on: db-1}")
    assert whole(**declared)["shop"]["database"]["on"] == "db-1"


def test_the_right_host_has_nothing_wrong() -> None:
    declared = whole(database={"on": "db-1"})
    assert hosts.faults(declared, ALL, GROUPS, VARIABLES, "prod") == []
    assert apps.checks(declared, "prod") == []


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({"database": {"on": "db-1"}, "env": {"DATABASE_URL": "postgresql://a@b/c"}}, "site.yml sets it for"),
        ({"database": {"on": "db-1", "ca": "ca.pem"}}, "the authority of db-1 is made there. Remove it"),
        ({"database": {"on": "db-1", "scheme": "mysql+aiomysql"}}, "which is none of postgresql"),
        ({"database": {"on": "db-1"}, "network": "none"}, "apps.shop.network is none"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_it_is_refused(declared: dict[str, Any], sentence: str) -> None:
    found = apps.checks(whole(**declared), "prod")
    assert any(sentence in text for text in found), found


def test_another_kind_does_not_go_with_it() -> None:
    (found,) = apps.faults({"shop": {**render.APP, "database": {"on": "db-1", "kind": "sqlite"}}})
    assert "database.on is for PostgreSQL on db-1, and database.kind is 'sqlite'" in found


def test_the_host_counts_the_app_once_for_each_of_its_hosts_and_lets_those_in() -> None:
    declared = whole(database={"on": "db-1", "connections": 30}) | {"other": whole()["shop"]}
    (found,) = hosts.shared(declared, "db-1", ALL, GROUPS, VARIABLES)
    assert (found["name"], found["connections"], found["limit"], found["owner"]) == ("shop", 60, 60, "migrate")
    assert found["clients"] == ["192.0.2.11", "192.0.2.12"]
    assert hosts.shared(declared, "app-1", ALL, GROUPS, VARIABLES) == []
    assert [item["name"] for item in apps.databases(declared, 2)] == ["other"], "and the app's own host has none"
    assert hosts.internal_ports([found]) == [{"port": 5432, "from": ["192.0.2.11", "192.0.2.12"]}]


def _handed(**declared: Any) -> dict[str, Any]:
    item = {"name": "shop", "on": "db-1"}
    reached = hosts.reached(whole(**declared), [{"item": item, "stdout": SAID}], VARIABLES)
    return app_settings.complete(reached["shop"])


def test_the_app_has_a_database_elsewhere_then() -> None:
    app = _handed(database={"on": "db-1", "scheme": "postgresql+psycopg"})
    assert app["env"]["DATABASE_URL"] == "postgresql+psycopg://shop:aaa@192.0.2.21:5432/shop"
    assert database.of_migrations(app["database"], app["env"], "shop", "shop_migrate") == {
        "DATABASE_URL": "postgresql+psycopg://shop_migrate:bbb@192.0.2.21:5432/shop"
    }
    assert database.variables(app["database"], "shop")["PGSSLMODE"] == "verify-full"
    assert app["database"]["kind"] == "external"
    assert CERTIFICATE in app["database"]["ca"]
    assert app_settings.network(app) == "outbound"


def test_an_app_that_reads_parts_migrates_as_the_other_role() -> None:
    parts = {"host": "H", "port": "P", "user": "U", "password": "W", "name": "N"}
    app = _handed(database={"on": "db-1", **parts})
    assert {name: app["env"][name] for name in parts.values()} == {
        "H": "192.0.2.21", "P": "5432", "U": "shop", "W": "aaa", "N": "shop",
    }  # fmt: skip
    assert database.of_migrations(app["database"], app["env"], "shop", "shop_migrate") == {
        "H": "192.0.2.21", "P": "5432", "U": "shop_migrate", "W": "bbb", "N": "shop",
    }  # fmt: skip


def test_an_app_that_owns_its_tables_has_one_role() -> None:
    app = _handed(database={"on": "db-1", "owner": "app"})
    assert "MIGRATION_DATABASE_URL" not in app["env"]


@pytest.mark.parametrize(
    ("said", "host", "sentence"),
    [
        (SAID, "app-1", ""),
        (SAID, "app-2", "db-1 does not let app-2 (192.0.2.12) in yet. Run site.yml for both"),
        ("", "app-1", "db-1 has no database for shop yet."),
        (SAID.replace(CERTIFICATE, ""), "app-1", "db-1 has no database for shop yet."),
    ],
)  # fmt: skip
def test_a_host_that_is_not_ready_is_said(said: str, host: str, sentence: str) -> None:
    found = hosts.not_ready([{"item": {"name": "shop", "on": "db-1"}, "stdout": said}], host, VARIABLES, "prod")
    assert (sentence in " ".join(found)) if sentence else found == []


def test_what_the_host_is_asked_finds_whom_it_lets_in(tmp_path: Path) -> None:
    (shared,) = hosts.shared(whole(database={"on": "db-1"}), "db-1", ALL, GROUPS, VARIABLES)
    rules = render.render("postgresql", "pg_hba.conf.j2", postgresql_databases=[shared])
    assert 'hostssl "shop"  "shop","shop_migrate"  192.0.2.11/32  scram-sha-256' in rules
    (tmp_path / "pg_hba.conf").write_text(rules)
    script = database_host.script("shop").replace("/etc/postgresql/*/*", str(tmp_path))
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert database_host.read(said).clients == {"192.0.2.11", "192.0.2.12"}


def test_postgresql_listens_for_other_hosts_by_tls_alone() -> None:
    found = hosts.shared(whole(database={"on": "db-1"}), "db-1", ALL, GROUPS, VARIABLES)
    text = render.render("postgresql", "slipway.conf.j2", postgresql_databases=found)
    assert "listen_addresses = '*'" in text
    assert "ssl_cert_file = '/etc/slipway/postgresql/server.pem'" in text
    rules = render.render("postgresql", "pg_hba.conf.j2", postgresql_databases=found)
    assert [line for line in rules.splitlines() if line.startswith("host ")] == []
    firewall = render.render(
        "access", "firewall.nft.j2", access_internal_ports=hosts.internal_ports(found), access_web=False
    )
    assert "ip saddr { 192.0.2.11/32, 192.0.2.12/32 } tcp dport 5432 accept" in firewall
    assert "tcp dport { 80, 443 } accept" not in firewall


def test_a_role_is_given_what_postgresql_keeps_of_its_password() -> None:
    kept = engine_roles.verifier("aaa", b"0" * 16)
    lines = [
        "file shop SLIPWAY_DATABASE_PASSWORD=aaa", "file shop SLIPWAY_MIGRATION_PASSWORD=bbb",
        f"role shop {kept}", "role shop_migrate ", "role stranger ",
    ]  # fmt: skip
    found = passwords.statements(lines)
    assert found.startswith('ALTER ROLE "shop_migrate" PASSWORD \'SCRAM-SHA-256$')
    assert found.count("ALTER ROLE") == 1
    assert "bbb" not in found
    given = found.split("'")[1]
    assert passwords.statements([*lines[:3], f"role shop_migrate {given}"]) == ""


def test_certificate_and_passwords_are_made_once(tmp_path: Path) -> None:
    script = (render.ROLES / "postgresql/files/network.sh").read_text()
    script = script.replace("/etc/slipway", str(tmp_path)).replace("chown postgres:", ": chown")

    def run(address: str) -> str:
        command = ["sh", "-eus", address, "shop"]
        return subprocess.run(command, input=script, capture_output=True, text=True, check=True).stdout

    made = run("192.0.2.21")
    assert "made the authority" in made
    assert "made SLIPWAY_MIGRATION_PASSWORD of shop" in made
    assert run("192.0.2.21") == ""
    words = (tmp_path / "shop.database").read_text()
    handed = database_host.read(words + (tmp_path / "postgresql/authority.pem").read_text())
    assert set(handed.passwords) == {database.PASSWORD, database.MIGRATE_PASSWORD}
    assert handed.authority
    assert run("db.example.com") == "made the certificate for db.example.com\n"
    verify = ["openssl", "verify", "-CAfile", "authority.pem", "-verify_hostname", "db.example.com", "server.pem"]
    subprocess.run(verify, cwd=tmp_path / "postgresql", check=True, capture_output=True)
    assert (tmp_path / "postgresql/server.key").stat().st_mode & 0o077 == 0
    assert (tmp_path / "shop.database").stat().st_mode & 0o077 == 0
