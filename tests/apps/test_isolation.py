"""An app that goes wrong by itself: the others on the host go on, and it comes back."""

from __future__ import annotations

import contextlib

import httpx

from . import shapes
from .conftest import Clients
from .site import App, Environment, wait_for

BUSY = """
import multiprocessing, time

def loop(end: float) -> None:
    while time.monotonic() < end:
        pass

end = time.monotonic() + 15
processes = [multiprocessing.Process(target=loop, args=(end,)) for _ in range(6)]
for process in processes:
    process.start()
for process in processes:
    process.join()
"""


def others(name: str) -> list[str]:
    return [app for app in shapes.NAMES if app != name]


def answers(app: App) -> bool:
    with contextlib.suppress(httpx.HTTPError), app.client() as client:
        return client.get("/").status_code == 200
    return False


def test_an_app_that_is_killed_whole_comes_back_and_touches_no_other(prod: Environment, clients: Clients) -> None:
    app = prod.of("chat")
    before = app.live()
    unit = f"chat@{prod.status('chat')['live']['slot']}.service"
    started = prod.sh(f"systemctl show --value -p MainPID {unit}")
    with clients(prod, others("chat")):
        prod.sh(f"systemctl kill --signal=KILL --kill-whom=all {unit}")
        wait_for(lambda: answers(app), 30)
    assert app.live() == before
    assert prod.sh(f"systemctl show --value -p MainPID {unit}") != started


def test_an_app_that_takes_all_processors_makes_no_request_of_another_fail(prod: Environment, clients: Clients) -> None:
    app = prod.of("ticker")
    with clients(prod, others("ticker")):
        prod.host.exec("slipway", "run", "ticker", "--", "python", "-c", BUSY)
    assert answers(app)
