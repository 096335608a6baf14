"""Which PostgreSQL cluster of a host is configured, on hosts that have several, retired ones, or none of the port."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from roles.postgresql.filter_plugins.clusters import postgresql_cluster


def line(version: str, name: str, port: int, status: str = "online", start: str = "auto", boot: str = "enabled") -> str:
    return f"cluster {version} {name} {port} {status} postgres /data/{version}/{name} /log/{name}.log {start} {boot}"


MAIN = line("17", "main", 5432)
CHOSEN = {"version": "17", "name": "main", "runs": True}


@pytest.mark.parametrize(
    "lines",
    [
        [MAIN],
        [line("17", "aaa", 5433), MAIN],
        [line("15", "main", 5433, "down", "manual", "disabled"), MAIN],  # pg_upgradecluster
        [line("15", "main", 5433, "down,binaries_missing", "manual"), MAIN],  # and the old version's package is gone
        [line("15", "main", 5432, "down", "manual"), MAIN],  # the same by hand
        [line("15", "main", 5432, "down", "disabled"), MAIN],
        [line("15", "main", 5432, "down"), MAIN],
        [line("16", "main", 5434), line("15", "x", 5435, "down"), MAIN],
        ["f postgres:postgres 644 /etc/postgresql/17/main/conf.d/slipway.conf", MAIN, "Welcome"],
    ],
)
def test_the_cluster_of_the_apps_port_is_chosen(lines: list[str]) -> None:
    assert postgresql_cluster(lines, 5432) == CHOSEN
    assert postgresql_cluster(lines[::-1], 5432) == CHOSEN


def test_after_an_upgrade_of_the_distribution_the_old_cluster_serves_until_it_is_upgraded() -> None:
    lines = [line("15", "main", 5432), line("17", "main", 5433)]
    assert postgresql_cluster(lines, 5432) == {"version": "15", "name": "main", "runs": True}


@pytest.mark.parametrize(
    "state", [("down", "auto", "enabled"), ("online", "auto", "disabled"), ("online", "manual", "")]
)
def test_one_that_does_not_run_or_will_not_at_boot_is_started_and_enabled(state: tuple[str, ...]) -> None:
    assert postgresql_cluster([line("17", "main", 5432, *state)], 5432) == {**CHOSEN, "runs": False}


def test_a_host_without_clusters_has_none() -> None:
    assert postgresql_cluster(["Welcome"], 5432) == {}


@pytest.mark.parametrize(
    ("lines", "sentences"),
    [
        ([line("17", "main", 5433)],
         ["no PostgreSQL cluster has port 5432", "`pg_conftool 17 main set port 5432 && systemctl restart"]),
        ([line("15", "main", 5433, "down", "manual"), line("17", "main", 5434)],
         ["15 main (port 5433, down, starts: manual, data in /data/15/main); 17 main (port 5434, online",
          "If they shall use 17 main, type there as root: `pg_conftool 17 main set port 5432"]),
        ([line("17", "main", 5432, "down", "manual")], ["the PostgreSQL cluster of port 5432, which apps use, is ret"]),
        ([line("15", "main", 5432, "down", "manual"), line("17", "main", 5433)],
         ["is retired", "`pg_conftool 15 main set port 5434 && pg_conftool 17 main set port 5432 && systemctl restart "
          "postgresql@17-main`"]),
        ([line("15", "main", 5432, "down"), line("17", "main", 5432, "down")],
         ["2 PostgreSQL clusters have port 5432"]),
        ([line("15", "main", 5432, "down,binaries_missing")], ["has no programs: type `apt-get install postgresql"]),
        ([line("17", "main", 5432, "online,recovery")], ["is the standby of another server"]),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_with_all_clusters(lines: list[str], sentences: list[str]) -> None:
    with pytest.raises(AnsibleFilterError) as refused:
        postgresql_cluster(lines, 5432)
    for sentence in sentences:
        assert sentence in refused.value.message
