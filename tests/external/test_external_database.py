"""A database elsewhere: TLS is verified in full, its faults are one sentence before anything changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.controller import flat

from .conftest import GONE, NAME, Shop


@contextlib.contextmanager
def set_up(shop: Shop, **entry: object) -> Iterator[None]:
    """The host with another declaration, and afterwards with the right one again."""
    with shop.declared(**entry):
        shop.play("site.yml", "-e", "app=logbook")
        yield
    shop.play("site.yml", "-e", "app=logbook")


def test_the_host_of_the_app_has_no_server_of_postgresql(shop: Shop) -> None:
    assert shop.sh("ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null || true") == ""
    assert shop.sh("systemctl list-unit-files --no-legend 'postgresql*' || true") == ""
    assert shop.sh("ls /usr/lib/postgresql/*/bin/psql"), "the engine asks by it"


def test_app_and_migrations_come_by_tls_each_as_its_role(shop: Shop) -> None:
    assert shop.live() == shop.good[-1]
    found = shop.server.sql(
        "SELECT DISTINCT usename, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE datname = 'shop'"
    )
    assert found == "shop_app|t"
    owners = shop.server.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'", database="shop")
    assert owners == "shop_owner"


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("wrong authority", "has a certificate that the authority in database.ca has not signed"),
        ("wrong password", "refuses the password of role shop_owner"),
        ("another name", "has a certificate for another name than that of the host in the URL"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_has_changed(shop: Shop, what: str, says: str) -> None:
    live, other = shop.live(), next(version for version in shop.good if version != shop.live())
    address = shop.server.address
    entry = {
        "wrong authority": shop.entry("wrong"),
        "wrong password": shop.entry(owner=shop.url("owner", password="no-Such-Password")),
        "another name": shop.entry(owner=shop.url("owner", hosts=(address,)), app=shop.url("app", hosts=(address,))),
    }[what]
    with set_up(shop, **entry):
        output = shop.fails(other)
    place = address if what == "another name" else NAME
    assert f"PostgreSQL at {place} {says}." in flat(output), output
    assert "no-Such-Password" not in output
    assert shop.live() == live
    assert shop.left_behind() == []


def test_a_database_that_does_not_answer_is_said_and_its_return_is_enough(shop: Shop) -> None:
    live, other = shop.live(), next(version for version in shop.good if version != shop.live())
    shop.server.sh("systemctl stop postgresql")
    try:
        output = shop.fails(other)
        assert f"PostgreSQL at {NAME} does not answer." in flat(output), output
    finally:
        shop.server.sh("systemctl start postgresql")
    shop.wait_until_ready(30)
    assert shop.live() == live
    shop.deploy(other)
    assert shop.live() == other


def test_of_several_hosts_one_that_answers_is_enough(shop: Shop) -> None:
    other = next(version for version in shop.good if version != shop.live())
    several = (GONE, NAME)
    with set_up(shop, **shop.entry(app=shop.url("app", hosts=several), owner=shop.url("owner", hosts=several))):
        shop.deploy(other)
        assert shop.live() == other
        assert shop.server.sql("SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'shop_app'") == "t"
    shop.deploy(other, "-e", "force=true")
