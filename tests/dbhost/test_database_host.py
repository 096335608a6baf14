"""A database on another host of the environment: who has what, how the app comes to it, and what goes wrong."""

from __future__ import annotations

from tests.controller import flat

from .conftest import ADDRESSES, HOST, SERVER, Shop

CHANGED = "changed=0 "


def test_the_host_of_the_app_has_no_server_of_postgresql_and_the_other_one_no_app(shop: Shop) -> None:
    assert shop.sh("ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null || true") == ""
    assert shop.there("ls -d /srv/logbook /etc/nginx /etc/logbook 2>/dev/null || true") == ""
    listening = shop.there("ss --listening --tcp --numeric --no-header | awk '{ print $4 }'")
    assert {line.rpartition(":")[2] for line in listening.splitlines() if "127.0.0" not in line} == {"22", "5432"}


def test_app_and_migrations_come_by_tls_each_as_its_role(shop: Shop) -> None:
    assert shop.live() in shop.good
    found = shop.sql(
        "SELECT DISTINCT usename, ssl, host(client_addr) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        " WHERE usename = 'logbook'"
    )
    assert found == f"logbook|t|{ADDRESSES['app']}"
    assert shop.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'") == "logbook_owner"
    rules = shop.there("grep ^host /etc/postgresql/*/main/pg_hba.conf")
    assert rules.split() == [
        "hostssl", '"logbook"', '"logbook","logbook_migrate"', f"{ADDRESSES['app']}/32", "scram-sha-256",
    ]  # fmt: skip
    assert f"ip saddr {{ {ADDRESSES['app']}/32 }} tcp dport 5432 accept" in shop.there("cat /etc/slipway/firewall.nft")


def test_the_passwords_are_for_root_and_no_program_has_shown_them(shop: Shop) -> None:
    assert shop.there("stat -c '%a %U' /etc/slipway/logbook.database /etc/slipway/postgresql/authority.key") == (
        "600 root\n600 root"
    )
    for password in shop.there("cut -d= -f2 /etc/slipway/logbook.database").splitlines():
        for host in (HOST, SERVER):
            found = host.exec("sh", "-c", "journalctl --no-pager; cat /var/log/postgresql/*.log 2>/dev/null; true")
            assert password not in found


def test_a_second_run_changes_nothing_and_one_for_the_app_alone_works(shop: Shop) -> None:
    for limit in ("local", HOST.name, SERVER.name):
        output = shop.play("site.yml", limit=limit)
        recap = [line for line in output.splitlines() if "ok=" in line]
        assert recap, output
        assert all(CHANGED in line for line in recap), output


def test_a_deploy_does_not_go_to_the_host_of_the_database(shop: Shop) -> None:
    other = next(version for version in shop.good if version != shop.live())
    output = shop.deploy(other)
    assert SERVER.name not in output
    assert shop.live() == other
    refused = flat(shop.play("deploy.yml", limit=SERVER.name, check=False))
    assert f"{SERVER.name} is in the group 'database' and not in 'app_hosts', so it has no apps." in refused


def test_a_migration_that_fails_changes_nothing_and_a_rollback_goes_back(shop: Shop) -> None:
    live = shop.live()
    broken = shop.version(migration="raises_half_way")
    shop.fails(broken)
    assert shop.live() == live
    assert shop.left_behind() == []
    other = next(version for version in shop.good if version != live)
    shop.deploy(other)
    shop.play("rollback.yml")
    assert shop.live() == live


def test_a_host_that_is_not_in_the_environment_is_one_sentence(shop: Shop) -> None:
    with shop.declared(database={"on": "slipway-dbhost-bd"}):
        output = flat(shop.play("site.yml", check=False))
    says = "apps.logbook.database.on is 'slipway-dbhost-bd', which is no host of local. The nearest is "
    assert f"{says}'{SERVER.name}'." in output


def test_an_authority_that_has_not_signed_it_is_said_and_site_puts_it_right(shop: Shop) -> None:
    other = next(version for version in shop.good if version != shop.live())
    shop.there("rm -r /etc/slipway/postgresql")
    shop.play("site.yml", limit=SERVER.name)
    output = flat(shop.fails(other))
    assert (
        f"PostgreSQL at {ADDRESSES['db']} has a certificate that the authority in database.ca has not signed." in output
    )
    shop.play("site.yml", limit=HOST.name)
    shop.deploy(other)
    assert shop.live() == other


def test_a_host_that_has_not_prepared_the_database_is_named(shop: Shop) -> None:
    with shop.declared(others={"shop": {"domains": ["shop.example.com"], "env": {"SECRET_KEY": "s" * 40}}}):
        output = flat(shop.play("site.yml", limit=HOST.name, check=False))
    assert f"apps.shop.database.on: {SERVER.name} has no database for shop yet. Run site.yml for both" in output
