"""maintenance.yml: an app that is closed for its clients, or whose requests wait, without a reload of Nginx."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.controller import flat
from tests.faults.site import Site, wait_for

WAITING = 100
UNIT = "slipway-hold-logbook"


@pytest.fixture
def opened(site: Site) -> Iterator[Site]:
    """The host; afterwards its app is open."""
    yield site
    site.play("maintenance.yml", "-e", "state=off")
    wait_for(lambda: not units(site), 15)


def units(site: Site) -> str:
    return site.sh(f"systemctl list-units --all --no-legend '{UNIT}*'")


def workers(site: Site) -> str:
    """The processes of Nginx: a reload makes others."""
    return site.sh("pgrep --parent $(cat /run/nginx.pid) | sort")


def ask(site: Site, path: str = "/", **values: object) -> tuple[int, float]:
    """Status of a request of a client of its own, and the seconds that it took."""
    started = time.monotonic()
    with site.client(timeout=60) as client:
        answer = client.post(path) if values.get("method") == "POST" else client.get(path)
    return answer.status_code, time.monotonic() - started


def test_an_app_is_closed_and_opened_without_a_reload(opened: Site) -> None:
    before = workers(opened)
    with opened.client() as client:  # one connection, which stays
        assert client.get("/").status_code == 200
        output = opened.play("maintenance.yml", "-e", "state=on")
        assert "logbook is closed: clients get 503." in flat(output)
        closed = client.get("/")
        assert (closed.status_code, closed.headers["content-type"]) == (503, "application/problem+json")
        assert closed.headers["retry-after"] == "5"
        page = client.get("/", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
        assert client.get("/health/ready").status_code == 200
        assert opened.sh("curl --version >/dev/null 2>&1; python3 -c \"import ssl, urllib.request as u; "
                         "print(u.urlopen(u.Request('https://127.0.0.1/', headers={'Host': 'localhost'}), "
                         "context=ssl._create_unverified_context()).status)\"") == "200"  # fmt: skip
        assert "changed=0" in opened.play("maintenance.yml", "-e", "state=on")
        assert "logbook is open." in flat(opened.play("maintenance.yml", "-e", "state=off"))
        assert client.get("/").status_code == 200
        assert "changed=0" in opened.play("maintenance.yml", "-e", "state=off")
    assert workers(opened) == before


def test_a_deploy_goes_through_while_the_app_is_closed(opened: Site) -> None:
    old = opened.live()
    new = next(version for version in opened.good if version != old)
    opened.play("maintenance.yml", "-e", "state=on")
    opened.deploy(new)
    assert ask(opened)[0] == 503
    opened.play("maintenance.yml", "-e", "state=off")
    assert opened.live() == new
    assert ask(opened)[0] == 200


def test_requests_wait_and_none_fails(opened: Site) -> None:
    before = workers(opened)
    opened.play("maintenance.yml", "-e", "state=on", "-e", "hold=60")
    with ThreadPoolExecutor(WAITING) as clients:
        methods = ("GET", "POST")
        waiting = [clients.submit(ask, opened, method=methods[number % 2]) for number in range(WAITING)]
        time.sleep(3)
        assert [one for one in waiting if one.done()] == []
        opened.play("maintenance.yml", "-e", "state=off")
        answers = [one.result() for one in waiting]
    assert {status for status, _ in answers} == {200, 201}
    assert min(seconds for _, seconds in answers) >= 2
    assert ask(opened)[1] < 2
    assert workers(opened) == before


def test_requests_wait_no_longer_than_was_said(opened: Site) -> None:
    opened.play("maintenance.yml", "-e", "state=on", "-e", "hold=3")
    status, seconds = ask(opened)
    assert status == 503
    assert seconds < 8
    assert ask(opened)[0] == 503
    assert ask(opened)[1] < 2, "from then on nobody waits"
    assert "logbook.hold" not in opened.sh("ls /var/lib/slipway/maintenance")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((), "Pass -e state=on to close logbook for its clients, or -e state=off to open it."),
        (("-e", "state=maybe"), "state is 'maybe'. Pass -e state=on or -e state=off."),
        (("-e", "state=on", "-e", "hold=1h"), "hold is '1h'. Pass the seconds that requests may wait, at most 300"),
        (("-e", "state=on", "-e", "hold=301"), "hold is '301'. Pass the seconds that requests may wait, at most 300"),
        (("-e", "state=off", "-e", "hold=3"), "hold goes with state=on"),
        (("-e", "state=on", "-e", "app=other"), "There is no app 'other' in local: pass -e app= with one of logbook."),
    ],
)
def test_what_cannot_be_meant_is_refused(site: Site, given: tuple[str, ...], sentence: str) -> None:
    output = site.play("maintenance.yml", *given, check=False)
    assert sentence in flat(output), output
    with httpx.Client(verify=site.trust()) as client:
        assert client.get(f"https://127.0.0.1:{site.port(443)}/").status_code == 200
