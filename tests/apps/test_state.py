"""An app that crashes, one that is taken away and comes back with its data, and one whose data goes as well."""

from __future__ import annotations

import httpx
import pytest

from . import shapes
from .conftest import Clients
from .site import App, Environment, wait_for
from .test_cutover import others

BUSY = """
import multiprocessing, time

def loop(end):
    while time.monotonic() < end:
        pass

end = time.monotonic() + 10
processes = [multiprocessing.Process(target=loop, args=(end,)) for _ in range(6)]
for process in processes:
    process.start()
for process in processes:
    process.join()
"""


def traces(app: App) -> str:
    """What the host has of an app beside its data."""
    return app.environment.sh(
        f"""systemctl list-units --all --plain --no-legend '{app.name}@*' '{app.name}.*' 'slipway-*@{app.name}.*'
        ls -d /etc/systemd/system/{app.name}[@.]* /etc/nginx/*/{app.name}* /etc/ssl/slipway/{app.name} 2>/dev/null
        pgrep -a -u {app.name} 2>/dev/null; true"""
    ).strip()


def is_served(app: App) -> bool:
    try:
        app.ask()
    except (httpx.HTTPError, AssertionError):
        return False
    return True


def test_a_crash_touches_no_other_app(prod: Environment, clients: Clients) -> None:
    app = prod.of("orders")
    with clients(prod, others("orders")):
        prod.sh("systemctl kill --signal=KILL 'orders@*.service'")
        wait_for(lambda: is_served(app), 20)


def test_an_app_that_takes_all_processors_makes_no_request_of_another_fail(prod: Environment, clients: Clients) -> None:
    with clients(prod, others("ticker")):
        prod.host.exec("slipway", "run", "ticker", "--", "python", "-c", BUSY)
    assert is_served(prod.of("ticker"))


def test_an_app_that_is_absent_is_gone_and_comes_back_with_its_data(prod: Environment, clients: Clients) -> None:
    app = prod.of("album")
    app.ask("/files/kept", "PUT", 201, content=b"kept")
    count = app.ask().json()["count"]
    with clients(prod, others("album"), keep=False):
        prod.write_inventory(album={"state": "absent"})
        prod.play("site.yml", limit=None)
        assert traces(app) == ""
        assert not is_served(app)
        assert "kept" in prod.sh("ls -R /var/lib/album")
        prod.write_inventory()
        prod.play("site.yml", "-e", "app=album", limit=None)
        prod.deploy("album", shapes.SECOND)
    assert app.ask("/files/kept").content == b"kept"
    assert app.ask().json()["count"] == count


def test_what_is_purged_leaves_nothing(prod: Environment, clients: Clients) -> None:
    app = prod.of("ticker")
    with clients(prod, others("ticker"), keep=False):
        prod.write_inventory(ticker={"state": "absent"})
        prod.play("site.yml", "-e", "purge=ticker", limit=None)
    assert traces(app) == ""
    assert prod.sh("ls -d /var/lib/ticker /srv/ticker 2>/dev/null; true").strip() == ""
    databases = prod.host.exec("runuser", "-u", "postgres", "--", "psql", "-tAc", "SELECT datname FROM pg_database")
    assert "ticker" not in databases.split()
    with pytest.raises((httpx.HTTPError, AssertionError)):
        app.ask()
