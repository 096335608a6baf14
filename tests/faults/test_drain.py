"""What the old release is still doing when the new one takes over, and how a release fares that nobody touches."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

# Not its client with threads: once in some thousands of TLS connections its opening request never arrives at Nginx.
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close

from tests.controller import flat

from .conftest import Steady
from .site import Site, wait_for


class Request:
    """One request of so many seconds, under way on a thread of its own."""

    def __init__(self, site: Site, seconds: float) -> None:
        self.answer: httpx.Response | None = None
        self.error: httpx.HTTPError | None = None
        self._thread = threading.Thread(target=self._send, args=(site, seconds))
        self._thread.start()
        time.sleep(0.5)  # it has to have arrived

    def _send(self, site: Site, seconds: float) -> None:
        with site.client(timeout=90) as client:
            try:
                self.answer = client.get("/slow", params={"seconds": seconds})
            except httpx.HTTPError as error:
                self.error = error

    def end(self) -> httpx.Response | None:
        self._thread.join()
        return self.answer


@pytest.mark.row(38, "drain", "a request of 25 s is in flight")
def test_a_request_in_flight_completes_on_the_release_that_took_it(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    old, new = site.live(), site.version()
    with steady() as load:
        with site.settings(drain_seconds=30):
            run = site.run("deploy.yml", *new.chosen)
            run.until("Deploy |")
            request = Request(site, 25)
            assert run.end() == 0, run.output[-3000:]
        answer = request.end()
        assert site.live() == new
        assert site.left_behind() == []
    drained = site.phase(new, "drain")
    record_property("note", drained["message"])
    assert answer is not None, request.error
    assert answer.status_code == 200, answer.text
    assert (answer.json()["release"], answer.headers["x-release"]) == (old.tag, old.sha)
    assert drained["seconds"] > 3, "or it had ended before the switch"
    assert "cut" not in drained["message"]
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]


@pytest.mark.row(39, "drain", "a request goes on beyond the deadline")
def test_a_request_beyond_the_deadline_is_cut_and_counted(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    old, new = site.live(), site.version()
    with steady() as load:
        with site.settings(drain_seconds=2):
            run = site.run("deploy.yml", *new.chosen)
            run.until("Deploy |")
            request = Request(site, 60)
            assert run.end() == 0, run.output[-3000:]
        answer = request.end()
        assert site.live() == new
        assert site.left_behind() == []
    drained = site.phase(new, "drain")
    record_property("note", drained["message"])
    assert answer is None or answer.status_code >= 500, "it was not cut"
    assert "stopped at the deadline of 2 s, 1 connection(s) cut" in drained["message"]
    assert site.phase(new, "result")["detail"]["receipt"]["cut"] == 1
    assert re.search(r" 1 of \d+ requests failed", flat(run.output)), run.output[-2000:]
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]


def websocket(site: Site) -> connect:
    return connect(f"wss://127.0.0.1:{site.port(443)}/ws", ssl=site.trust())


async def say(socket: ClientConnection, text: str) -> None:
    """Send a text, and have it come back."""
    await socket.send(text)
    async with asyncio.timeout(10):
        assert await socket.recv() == text


async def talk(site: Site) -> Close | None:
    """Talk until the connection ends; the close frame that came, None when it broke without one.

    TimeoutError when it has not ended after a minute.
    """
    async with asyncio.timeout(60), websocket(site) as socket:
        try:
            while True:
                await say(socket, "still there?")
                await asyncio.sleep(0.1)
        except ConnectionClosed as closed:
            return closed.rcvd


async def greet(site: Site) -> None:
    async with websocket(site) as socket:
        await say(socket, "and now?")


@pytest.mark.row(40, "drain", "a WebSocket is open")
def test_a_websocket_is_closed_at_the_deadline_with_a_close_frame(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    old, new = site.live(), site.version()
    with steady() as load:
        with site.settings(drain_seconds=2), ThreadPoolExecutor() as pool:
            run = site.run("deploy.yml", *new.chosen)
            run.until("Deploy |")
            talking = pool.submit(asyncio.run, talk(site))
            assert run.end() == 0, run.output[-3000:]
            frame = talking.result()
        assert site.live() == new
        assert site.left_behind() == []
        asyncio.run(greet(site))
    record_property("note", f"closed with {frame.code if frame else 'no frame'}")
    assert frame is not None, "the connection broke without a close frame"
    assert frame.code == 1012
    assert "deadline of 2 s" in site.phase(new, "drain")["message"]
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]


def workers(site: Site) -> set[int]:
    """The worker processes of the live slot: the children of its main process."""
    slot = site.status()["live"]["slot"]
    main = site.host.exec("systemctl", "show", "--property=MainPID", "--value", f"logbook@{slot}.service")
    return {int(pid) for pid in site.host.exec("pgrep", "-P", main, check=False).split()}


@pytest.mark.row(41, "steady", "a worker is killed, as by the kernel when memory runs out: SIGKILL (its requests fail)")
def test_a_worker_that_is_killed_is_replaced_within_5_s(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    old, before = site.live(), workers(site)
    victim = min(before)
    with steady() as load:
        started = time.monotonic()
        site.host.exec("kill", "-KILL", str(victim))
        with site.client() as client:  # it has to answer, not only to be there
            seconds = wait_for(lambda: client.get("/health/ready").json()["pid"] not in before, 5, 0.01)
        assert len(workers(site)) == 2
        assert site.live() == old
        assert site.left_behind() == []
        site.next_run()
    record_property("note", f"replaced after {seconds:.1f} s")
    # No more than were with that worker when it died.
    assert len(load.failures) <= 4, load.failures
    assert load.outside([(started - 1, started + 1)]) == []


@pytest.mark.row(42, "steady", "the live release crashes again and again (requests fail once it is given up)")
def test_a_crash_loop_is_bounded_and_shown_and_ended_by_the_next_deploy(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    old = site.live()
    slot = site.status()["live"]["slot"]
    unit = f"logbook@{slot}.service"
    with steady() as load:
        began = time.monotonic()
        site.sh(
            f"""for n in $(seq 400); do
                systemctl kill --kill-whom=main --signal=KILL {unit} 2>/dev/null
                test "$(systemctl show --property=ActiveState --value {unit})" = failed && exit 0
                sleep 0.1
            done; exit 1"""
        )
        live = site.status()["live"]
        shown = site.play("status.yml")
        site.deploy(site.good[0] if old != site.good[0] else site.good[1])
        ended = time.monotonic()
        assert site.live() in site.good
        assert site.left_behind() == []
    restarts = live["restarts"]
    record_property("note", f"given up after {restarts} restarts")
    assert live["unit"] == "failed"
    assert 1 <= restarts <= 5
    assert f"failed, restarted {restarts} times" in shown
    assert load.outside([(began - 1, ended)]) == []
