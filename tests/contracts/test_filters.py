from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from hosts.scratch import PROJECT
from playbooks.plugins.filter import apps


def settled(defaults: dict[str, Any] | None = None, **declared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return apps.settings(declared, defaults)


def test_settings_are_the_apps_over_the_environments_over_the_roles() -> None:
    found = settled({"keep_releases": 9, "pool_size": 2}, logbook={"keep_releases": 3})["logbook"]
    assert (found["keep_releases"], found["pool_size"], found["drain_seconds"]) == (3, 2, 30)


def test_settings_come_in_the_types_of_the_specification() -> None:
    found = settled(logbook={"domains": "a.example.com", "graceful_timeout": "30"})["logbook"]
    assert (found["domains"], found["graceful_timeout"]) == (["a.example.com"], 30)


@pytest.mark.parametrize("wrong", [{"workers": "many"}, {"wrokers": 2}, {"accept": "anything"}])
def test_a_wrong_setting_is_named_with_its_app(wrong: dict[str, Any]) -> None:
    with pytest.raises(AnsibleFilterError, match=rf"apps\.logbook: .*{next(iter(wrong))}"):
        settled(logbook=wrong)


def test_each_app_with_something_wrong_is_named() -> None:
    declared: dict[str, dict[str, Any]] = {"good": {}, "one": {"workers": "many"}, "two": {"wrokers": 2}}
    assert [fault.partition(":")[0] for fault in apps.faults(declared)] == ["apps.one", "apps.two"]
    assert "argument 'workers' is of type str and we were unable to convert to int" in apps.faults(declared)[0]


def test_connections_are_slots_times_workers_times_pool_and_a_few() -> None:
    declared = settled(auto={}, fixed={"workers": 3, "pool_size": 4})
    assert apps.databases(declared, processors=6) == [
        {"name": "auto", "connections": 2 * 6 * 5 + 3},
        {"name": "fixed", "connections": 2 * 3 * 4 + 3},
    ]


@pytest.mark.parametrize(("processors", "workers"), [(1, 2), (2, 2), (8, 8), (64, 8)])
def test_automatic_workers_fit_into_a_server_as_it_is_installed(processors: int, workers: int) -> None:
    connections = apps.databases(settled(auto={}), processors)[0]["connections"]
    assert connections == 2 * workers * 5 + 3
    server = yaml.safe_load((PROJECT / "roles/postgresql/defaults/main.yml").read_text())
    assert connections <= server["postgresql_max_connections"] - server["postgresql_reserved_connections"]


def test_an_app_with_a_database_of_its_own_gets_none() -> None:
    declared = settled(external={"env": {"DATABASE_URL": "postgresql+asyncpg://db.example.com/x"}})
    assert apps.databases(declared, processors=2) == []


def test_a_site_goes_through_the_live_link() -> None:
    site = apps.sites(settled(logbook={"domains": ["a.example.com"]}))[0]
    assert site["upstream_socket"] == "/srv/logbook/live/http.sock"
    assert site["domains"] == ["a.example.com"]
