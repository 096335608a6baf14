"""What the app's unit and Gunicorn's settings have to do for a slot on standby, with real processes and no host."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.slot import processes
from slipway.slot.processes import Process
from tests.templates import render as renderer

PARENT = """
import subprocess, sys, time
children = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2)]
print(*(child.pid for child in children), flush=True)
time.sleep(60)
"""


def script(name: str, instance: str = "blue") -> str:
    """What a setting of the unit gives to the shell."""
    unit = renderer.render("app", "app@.service.j2").replace("\\\n", " ")
    found = re.search(rf"^{name}=[-+]*/bin/sh -c (.*)$", unit, re.MULTILINE)
    assert found, f"the unit has no {name}="
    (text,) = shlex.split(found[1])
    return text.replace("$$", "$").replace("%i", instance)


def sh(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(["/bin/sh", "-c", text], env=known, capture_output=True, text=True, check=False)


@pytest.fixture
def service() -> Iterator[tuple[int, list[int]]]:
    """A main process and its two workers."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        workers = [int(pid) for pid in main.stdout.readline().split()]
        yield main.pid, workers
        main.kill()
        for pid in workers:
            if processes.status(pid) is not None:
                os.kill(pid, signal.SIGKILL)


def state(pid: int) -> str:
    found = processes.status(pid)
    return found.state if found else ""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_unit_that_stops_kills_workers_that_are_paused_and_no_others(service: tuple[int, list[int]]) -> None:
    main, (paused, running) = service
    os.kill(paused, signal.SIGSTOP)
    wait_for(lambda: state(paused) == "T")
    done = sh(script("ExecStop"), MAINPID=str(main))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"On standby: worker {paused} is killed, which is its proper end.\n"
    wait_for(lambda: state(paused) in ("", "Z"))
    # Neither stopped nor ended: it waits, or it runs at this moment.
    assert state(running) in ("S", "R")
    assert state(main) in ("S", "R")


def test_a_unit_whose_main_process_is_gone_stops_without_a_word() -> None:
    done = sh(script("ExecStop"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("record", "starts"),
    [
        ("", True),
        ('{\n  "slot": "blue",\n  "state": "paused"\n}', False),
        ('{\n  "slot": "blue",\n  "state": "pausing"\n}', False),
        ('{\n  "slot": "blue",\n  "state": "waking"\n}', True),
        ('{\n  "slot": "green",\n  "state": "paused"\n}', True),
    ],
)
def test_a_slot_that_is_paused_is_not_started_by_systemd(tmp_path: Path, record: str, starts: bool) -> None:
    if record:
        (tmp_path / "logbook.standby.json").write_text(record)
    text = script("ExecCondition")
    assert "/run/slipway/logbook.standby.json" in text
    done = sh(text.replace("/run/slipway", str(tmp_path)))
    assert (done.returncode == 0) is starts, done.stderr
    assert done.stderr == ""


# Of gunicorn.conf.py


@pytest.fixture
def counting(tmp_path: Path) -> Callable[[Any], Any]:
    """The function of Gunicorn's settings that counts what an app is at work on."""
    text = renderer.render("app", "gunicorn.conf.py.j2")
    found = re.search(r"^def is_asgi3\(.*?(?=^class )", text, re.DOTALL | re.MULTILINE)
    assert found, "there is no such function any more"
    imports = "import inspect, mmap, os, pathlib\n"
    known: dict[str, Any] = {"runtime": str(tmp_path)}
    exec(imports + found[0], known)  # noqa: S102  # it is our own
    counted: Callable[[Any], Any] = known["counting"]
    return counted


class App:
    """An ASGI app that answers, and goes on until it is told to end, as one with a background task does."""

    def __init__(self) -> None:
        self.end = asyncio.Event()

    async def __call__(self, scope: dict[str, str], *_: object) -> str:
        await self.end.wait()
        if scope.get("path") == "/fails":
            raise RuntimeError("it fails")
        return "done"


def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int | None:
    if not (tmp_path / "logbook-blue").exists():
        (tmp_path / "logbook-blue").symlink_to(tmp_path)
    monkeypatch.setattr(processes, "RUN", tmp_path)
    return processes.at_work("logbook", "blue", [Process(os.getpid(), 0)])


async def test_requests_are_counted_until_the_app_is_done_with_them(
    counting: Callable[[Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App()
    assert at_work(tmp_path, monkeypatch) is None
    counted = counting(app)
    assert at_work(tmp_path, monkeypatch) == 0
    paths = ("/", "/", "/fails")
    tasks = [asyncio.create_task(counted({"type": "http", "path": path}, None, None)) for path in paths]
    tasks.append(asyncio.create_task(counted({"type": "lifespan"}, None, None)))
    await asyncio.sleep(0)
    assert at_work(tmp_path, monkeypatch) == 3, "the lifespan is no request"
    app.end.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(item) for item in outcomes] == ["done", "done", "it fails", "done"]
    assert at_work(tmp_path, monkeypatch) == 0


def test_an_app_that_is_no_asgi_3_is_left_as_it_is(counting: Callable[[Any], Any], tmp_path: Path) -> None:
    def wsgi(environ: object, start_response: object) -> None: ...

    assert counting(wsgi) is wsgi
    assert list(tmp_path.glob("at-work.*")) == [], "a slot of it must not be taken for idle"


def test_an_app_that_is_a_function_is_counted(counting: Callable[[Any], Any], tmp_path: Path) -> None:
    async def app(scope: object, receive: object, send: object) -> None: ...

    assert counting(app) is not app
    assert len(list(tmp_path.glob("at-work.*"))) == 1


def test_a_worker_keeps_the_user_that_systemd_gave_it(tmp_path: Path) -> None:
    """Gunicorn before 20.2 sets even the user that it has, and the sandbox denies the call."""
    file = tmp_path / "gunicorn.conf.py"
    file.write_text(renderer.render("app", "gunicorn.conf.py.j2"))
    program = "import os, runpy, sys, gunicorn.util; runpy.run_path(sys.argv[1]); os.setuid = None\n"
    program += "gunicorn.util.set_owner_process(os.getuid() + 1, os.getgid())"
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program, str(file)], check=True, env=environment)
