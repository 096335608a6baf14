from __future__ import annotations

from playbooks.plugins.filter import apps

DEFAULTS = {
    "env": {},
    "workers": 0,
    "pool_size": 5,
    "domains": [],
    "https_port": 443,
    "client_max_body_size": "10m",
    "request_timeout": 60,
}


def test_connections_are_slots_times_workers_times_pool_and_a_few() -> None:
    declared = {"auto": {}, "fixed": {"workers": 3, "pool_size": 4}}
    assert apps.databases(declared, DEFAULTS, processors=8) == [
        {"name": "auto", "connections": 2 * 8 * 5 + 3},
        {"name": "fixed", "connections": 2 * 3 * 4 + 3},
    ]
    assert apps.databases({"auto": {}}, DEFAULTS, processors=1)[0]["connections"] == 2 * 2 * 5 + 3


def test_an_app_with_a_database_of_its_own_gets_none() -> None:
    declared = {"external": {"env": {"DATABASE_URL": "postgresql+asyncpg://db.example.com/x"}}}
    assert apps.databases(declared, DEFAULTS, processors=2) == []


def test_a_site_goes_through_the_live_link() -> None:
    site = apps.sites({"logbook": {"domains": ["a.example.com"]}}, DEFAULTS)[0]
    assert site["upstream_socket"] == "/srv/logbook/live/http.sock"
    assert site["domains"] == ["a.example.com"]
