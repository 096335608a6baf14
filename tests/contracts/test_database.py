"""The setting `database`: its whole form, what it means for roles and engine, and what is refused."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import yaml
from ansible.template import trust_as_template

from filter_plugins import apps
from roles.app.filter_plugins import app_settings
from roles.app.module_utils import database
from slipway.base.errors import RefusedError
from slipway.slot import envfile
from tests.templates import render

LOCAL = "postgresql+asyncpg://logbook@localhost/logbook?host=/run/postgresql"


def settled(**declared: Any) -> dict[str, Any]:
    return apps.settings({"logbook": {**render.APP, **declared}})["logbook"]


def facts(**declared: Any) -> dict[str, Any]:
    return tomllib.loads(render.render("app", "app.toml.j2", declared))


def variables(**declared: Any) -> dict[str, Any]:
    known = render.variables("app", declared)
    found: dict[str, Any] = render.evaluate("{{ __app_env }}", **known)
    return found


@pytest.mark.parametrize(
    ("value", "env", "expected"),
    [
        ("", {}, {"kind": "postgresql", "url": "DATABASE_URL", "scheme": "postgresql+asyncpg", "tcp": False}),
        (None, {}, {"kind": "postgresql"}),
        ("none", {}, {"kind": "none"}),
        (False, {}, {"kind": "none"}),
        ("mysql", {}, {"kind": "mariadb", "scheme": "mysql+aiomysql"}),
        ("sqlite", {}, {"kind": "sqlite", "scheme": "sqlite+aiosqlite"}),
        ("mysql+asyncmy", {}, {"kind": "mariadb", "scheme": "mysql+asyncmy"}),
        ({"scheme": "postgresql+psycopg"}, {}, {"kind": "postgresql", "scheme": "postgresql+psycopg"}),
        ({"url": "POSTGRES_URL"}, {}, {"kind": "postgresql", "url": "POSTGRES_URL"}),
        ("", {"DATABASE_URL": "postgresql://me:x@db.example.com/a"}, {"kind": "external"}),
        ("", {"DATABASE_URL": "mysql+aiomysql://me:x@db.example.com/a"}, {"kind": "external"}),
        ({"url": "PG"}, {"PG": "postgresql://me:x@db.example.com/a"}, {"kind": "external", "url": "PG"}),
        # Only the driver is said: the database stays on the host.
        ("", {"DATABASE_URL": "postgresql+psycopg://logbook@localhost/logbook"}, {"kind": "postgresql"}),
        ("", {"DATABASE_URL": "postgresql+psycopg:///logbook"}, {"scheme": "postgresql+psycopg"}),
        ("", {"DATABASE_URL": "postgresql+psycopg://logbook@/logbook?host=/run/postgresql"}, {"kind": "postgresql"}),
        # With a password, or another name, it is somebody else's.
        ("", {"DATABASE_URL": "postgresql+psycopg://logbook:x@localhost/logbook"}, {"kind": "external"}),
        ("", {"DATABASE_URL": "postgresql+psycopg://other@localhost/other"}, {"kind": "external"}),
        ("", {"DATABASE_URL": "postgresql+psycopg://logbook@localhost:6432/logbook"}, {"kind": "external"}),
        (
            {
                "host": "POSTGRES_SERVER",
                "user": "POSTGRES_USER",
                "password": "POSTGRES_PASSWORD",
                "name": "POSTGRES_DB",
            },
            {},
            {"kind": "postgresql", "url": "", "tcp": True},
        ),
        (
            {"host": "H", "name": "N"},
            {"H": "db.example.com"},
            {"kind": "external", "parts": {"host": "H", "name": "N"}},
        ),
    ],
)
def test_there_is_one_whole_form(value: Any, env: dict[str, str], expected: dict[str, Any]) -> None:
    found = database.whole(value, env, "logbook")
    assert {key: found[key] for key in expected} == expected
    assert database.whole(found, database.without_own(found, env)) == found, "it stays as it is"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("mongo", "database is 'mongo', but must be one of none, postgresql, external"),
        ({"url": "postgresql://me:s3cret@db/a"}, "database.url is the name of the variable that has the URL"),
        ({"url": "MY-URL"}, "'MY-URL' cannot be the name of a variable"),
        ({"hots": "X"}, "database.hots is no setting. The nearest is 'host'"),
        ({"host": 5}, "are names of variables"),
        ({"scheme": "oracle"}, "database.scheme is 'oracle'"),
        ({"scheme": "postgresql+psycopg://"}, "database.scheme is 'postgresql+psycopg://', but must be how"),
        ({"scheme": "postgresql+x\n[Service]"}, "without '://', such as postgresql+psycopg."),
        ({"tcp": "no"}, "database.tcp is 'no', but must be true or false."),
        ({"connections": "many"}, "database.connections is 'many'"),
        ([], "database is []"),
    ],
)
def test_what_it_cannot_be_is_one_sentence(value: Any, sentence: str) -> None:
    with pytest.raises(RefusedError) as refused:
        database.whole(value, {}, "logbook")
    assert sentence in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert apps.faults({"logbook": {"database": value}})[0].startswith(
        ("apps.logbook.database", "apps.logbook: database")
    )


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({"database": "external"}, "apps.logbook.env.DATABASE_URL is not set, and apps.logbook.database is external."),
        (
            {"env": {"SECRET_KEY": "x", "DATABASE_URL": ""}},
            "DATABASE_URL is empty. Set it to the URL of a database",
        ),
        ({"database": {"owner": "me"}}, "apps.logbook.database.owner is 'me', but must be one of migrate, app."),
        ({"database": {"kind": "postgresql", "scheme": "mysql"}}, "apps.logbook.database.scheme is 'mysql'"),
        ({"database": {"connections": -1}}, "apps.logbook.database.connections is -1"),
    ],
)
def test_what_is_wrong_with_it_is_one_sentence(declared: dict[str, Any], sentence: str) -> None:
    settings = settled(**declared)
    found = app_settings.faults(settings, "logbook", "prod", {"SECRET_KEY": "x"})
    assert len(found) == 1
    assert sentence in found[0]


def test_an_app_without_a_database_is_given_none_and_asked_for_none() -> None:
    assert apps.databases({"logbook": settled(database="none")}, 2) == []
    written = facts(database="none")
    assert (written["database"], written["required_env"]) == ("none", ["SECRET_KEY"])
    assert "DATABASE_URL" not in variables(database="none")
    assert envfile.parse(app_settings.env_file(variables(database="none")))["STATE_DIRECTORY"] == "/var/lib/logbook"


def test_a_url_that_says_the_driver_leaves_the_database_on_the_host() -> None:
    declared = {"env": {"SECRET_KEY": "x", "DATABASE_URL": "postgresql+psycopg://logbook@localhost/logbook"}}
    assert [item["name"] for item in apps.databases({"logbook": settled(**declared)}, 2)] == ["logbook"]
    found = variables(**declared)
    assert found["DATABASE_URL"] == LOCAL.replace("asyncpg", "psycopg")
    assert facts(**declared)["network"] == "none"


def test_the_name_of_the_variable_is_the_apps_choice() -> None:
    found = variables(database={"url": "POSTGRES_URL"})
    assert found["POSTGRES_URL"] == LOCAL
    assert "DATABASE_URL" not in found
    assert facts(database={"url": "POSTGRES_URL"})["required_env"] == ["POSTGRES_URL", "SECRET_KEY"]


def test_migrations_of_an_app_that_owns_its_tables_run_as_the_app() -> None:
    assert facts()["migrate_user"] == "logbook_migrate"
    assert facts(database={"owner": "app"})["migrate_user"] == "logbook"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgresql+psycopg://me:x@db.example.com/a", "postgresql"),
        ("mysql+aiomysql://me:x@db.example.com/a", "mysql"),
        ("sqlite+aiosqlite:////mnt/a.db", "sqlite"),
    ],
)
def test_of_a_database_elsewhere_the_url_says_the_kind(url: str, kind: str) -> None:
    assert facts(env={"SECRET_KEY": "x", "DATABASE_URL": url})["database"] == kind


def test_sqlite_is_a_file_of_the_app_on_one_host() -> None:
    assert variables(database="sqlite")["DATABASE_URL"] == "sqlite+aiosqlite:////var/lib/logbook/logbook.sqlite3"
    assert (facts(database="sqlite")["database"], facts(database="sqlite")["migrate_user"]) == ("sqlite", "logbook")
    declared = {"logbook": {**render.APP, "database": "sqlite"}}
    assert apps.faults(declared) == []
    assert "each of the 3 hosts would have data of its own" in apps.faults(declared, hosts=3)[0]


PARTS = {"host": "PG_SERVER", "port": "PG_PORT", "user": "PG_USER", "password": "PG_PASSWORD", "name": "PG_DB"}


def test_parts_are_filled_on_the_host_with_a_password_that_only_it_knows() -> None:
    written = facts(database=PARTS)
    assert written["network"] == "loopback"
    assert written["host_secrets"] == ["SLIPWAY_DATABASE_PASSWORD", "SLIPWAY_MIGRATION_PASSWORD"]
    assert written["required_env"] == [*PARTS.values(), "SECRET_KEY"]
    secrets = {"SLIPWAY_DATABASE_PASSWORD": "one", "SLIPWAY_MIGRATION_PASSWORD": "two"}
    of_app = envfile.filled(written["filled_env"], secrets)
    assert of_app == {
        "PG_SERVER": "127.0.0.1", "PG_PORT": "5432", "PG_USER": "logbook", "PG_PASSWORD": "one", "PG_DB": "logbook"
    }  # fmt: skip
    assert envfile.filled(written["filled_migrate_env"], secrets) == {
        **of_app, "PG_USER": "logbook_migrate", "PG_PASSWORD": "two"
    }  # fmt: skip
    assert envfile.filled(written["filled_env"], {}).keys() == {*PARTS.values()} - {"PG_PASSWORD"}


def test_a_url_over_tcp_is_for_what_cannot_use_a_socket() -> None:
    written = facts(database={"tcp": True, "scheme": "postgresql", "owner": "app"})
    assert written["filled_env"] == {
        "DATABASE_URL": "postgresql://logbook:{SLIPWAY_DATABASE_PASSWORD}@127.0.0.1:5432/logbook"
    }
    assert written["filled_migrate_env"] == written["filled_env"], "migrations run as the app's role"
    assert written["host_secrets"] == ["SLIPWAY_DATABASE_PASSWORD"]


@pytest.mark.parametrize(
    ("tcp", "expected"), [(True, "listen_addresses = '127.0.0.1'"), (False, "listen_addresses = ''")]
)
def test_postgresql_listens_only_where_an_app_needs_it(tcp: bool, expected: str) -> None:
    declared = {"database": {"tcp": tcp}}
    found = apps.databases({"logbook": settled(**declared)}, 2)
    assert expected in render.render("postgresql", "slipway.conf.j2", declared, postgresql_databases=found)
    rules = render.render("postgresql", "pg_hba.conf.j2", declared, postgresql_databases=found)
    assert ("127.0.0.1/32  scram-sha-256" in rules) == tcp


def test_the_firewall_lets_such_an_app_to_that_port_alone() -> None:
    found = render.render("access", "firewall.nft.j2", {"database": {"tcp": True}})
    assert 'meta skuid 990 jump loopback_logbook comment "logbook"' in found
    assert 'oifname "lo" tcp dport { 5432 } accept' in found
    assert "ip daddr 127.0.0.1 tcp dport 5432 accept" in found, "its migrations, too"
    assert "loopback_logbook" not in render.render("access", "firewall.nft.j2")


@pytest.mark.parametrize(
    ("had", "apps_want", "expected"),
    [
        ([], 50, 200),
        (["max_connections theirs 100"], 50, 200),
        (["max_connections theirs 500"], 50, 500),
        (["max_connections ours 100", "max_connections theirs 100"], 50, 100),  # no restart to raise it a little
        (["max_connections ours 100"], 95, 200),
        (["max_connections ours 200"], 195, 350),  # twice as many would be beyond what the memory suggests
        (["max_connections ours 200"], 395, 450),
        (["max_connections ours 300"], 95, 300),
        ([], 400, 450),
    ],
)
def test_a_server_that_serves_is_restarted_only_for_connections_that_apps_want(
    had: list[str], apps_want: int, expected: int
) -> None:
    known = render.variables("postgresql", __postgresql_clusters={"stdout_lines": had})
    known["postgresql_databases"] = [{"name": "shop", "connections": apps_want}]
    assert int(render.evaluate("{{ __postgresql_connections }}", **known)) == expected


def _fits(memory: int, wanted: int, most: int = 0, had: list[str] | None = None) -> tuple[bool, str]:
    """Whether the preflight of role `postgresql` passes, and its sentence."""
    asked, check = yaml.safe_load((render.ROLES / "postgresql/tasks/preflight.yml").read_text())
    known = render.variables("postgresql", postgresql_max_connections=most, inventory_hostname="app-1")
    known["ansible_facts"] = {**known["ansible_facts"], "memtotal_mb": memory}
    known["postgresql_databases"] = [
        {"name": "small", "connections": 13},
        {"name": "large", "connections": wanted - 13},
    ]
    known |= {name: trust_as_template(str(text)) for name, text in check["vars"].items()}
    if all(render.evaluate(f"{{{{ {condition} }}}}", **known) for condition in asked["when"]):
        known["__postgresql_accepting"] = {"stdout_lines": had or []}
    rule = check["ansible.builtin.assert"]
    return render.evaluate(f"{{{{ {rule['that']} }}}}", **known), render.evaluate(rule["fail_msg"], **known)


@pytest.mark.parametrize(
    ("memory", "wanted", "most", "had", "expected"),
    [
        (1024, 190, 0, [], True),
        (1024, 191, 0, [], False),
        (8192, 790, 0, [], True),
        (8192, 791, 0, [], False),
        (1024, 290, 0, ["max_connections ours 300"], True),  # it has them: nothing is raised
        (1024, 290, 300, [], True),
        (8192, 91, 100, [], False),
    ],
)
def test_connections_are_raised_by_themselves_as_far_as_the_memory_suggests(
    memory: int, wanted: int, most: int, had: list[str], expected: bool
) -> None:
    fits, sentence = _fits(memory, wanted, most, had)
    assert fits is expected
    assert f"large wants the most, {wanted - 13}." in sentence
    assert "set postgresql_max_connections: " in sentence
    assert ("postgresql_max_connections is" if most else f"its memory is {memory} MB") in sentence


def test_six_apps_of_one_worker_and_one_process_fit_beside_the_bundled_one() -> None:
    declared = {f"app{n}": {**render.APP, "workers": 1, "processes": {"worker": "python -m x"}} for n in range(6)}
    whole = apps.settings({"logbook": render.APP, **declared})
    assert sum(item["connections"] for item in apps.databases(whole, 2)) <= 190


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        (
            {"database": {"ca": "no.pem", "kind": "external"}, "env": {"DATABASE_URL": "postgresql://u@db/x"}},
            "no PEM file",
        ),
        (
            {
                "database": {"ca": "CA", "kind": "external"},
                "env": {"DATABASE_URL": "postgresql://u@db/x?sslmode=require"},
            },
            "has sslmode= in its URL, which would count in place of apps.logbook.database.ca",
        ),
        ({"database": {"ca": "CA"}}, "database.ca is for a database elsewhere"),
        ({"database": PARTS, "env": {"PG_USER": "me"}}, "apps.logbook.env.PG_USER is one of the variables of"),
    ],
)
def test_what_would_keep_an_authority_or_a_password_from_counting_is_refused(
    declared: dict[str, Any], sentence: str, tmp_path: Any
) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    if declared["database"].get("ca") == "CA":
        declared = {**declared, "database": {**declared["database"], "ca": str(tmp_path / "ca.pem")}}
    found = app_settings.faults(settled(**declared), "logbook", "prod", {"SECRET_KEY": "x"})
    assert len(found) == 1, found
    assert sentence in found[0]


def test_app_and_migrations_check_a_database_elsewhere_with_the_same_authority() -> None:
    env = {"SECRET_KEY": "x", "DATABASE_URL": "postgresql://u@db/x", "MIGRATION_DATABASE_URL": "postgresql://m@db/x"}
    declared = {"database": {"kind": "external", "ca": "ca.pem"}, "env": env}
    found = variables(**declared)
    assert (found["PGSSLMODE"], found["PGSSLROOTCERT"]) == ("verify-full", "/etc/logbook/database-ca.pem")
    assert "MIGRATION_DATABASE_URL" not in found, "it is the migrations' alone"
    known = render.variables("app", declared)
    assert render.evaluate("{{ __app_migrate_env }}", **known) == {"DATABASE_URL": "postgresql://m@db/x"}
