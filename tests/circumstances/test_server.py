"""What serves an app: its own Gunicorn and Uvicorn where it has them, in whatever version, else those of Slipway.

Each version is installed by uv into a virtualenv of its own, and serves a real app over a unix socket.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from slipway.slot import health
from tests.templates import render

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".cache/test-servers"
ROLE = PROJECT / "roles/app"

APP = """
import asyncio, contextlib, os, sys
from importlib.metadata import version

seen = []

@contextlib.asynccontextmanager
async def lifespan():
    seen.append("started")
    yield
    with open(os.environ["ENDED"], "a") as file:
        file.write("ended\\n")

class App:
    def __init__(self):
        self.context = None

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            self.context = lifespan()
            await self.context.__aenter__()
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            await self.context.__aexit__(None, None, None)
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            assert (await receive())["type"] == "websocket.connect"
            await send({"type": "websocket.accept"})
            text = (await receive())["text"]
            await send({"type": "websocket.send", "text": text.upper()})
            await send({"type": "websocket.close"})
        else:
            if scope["path"] == "/slow":
                await asyncio.sleep(1.5)
            import gunicorn, uvicorn
            said = [*seen, scope["scheme"], uvicorn.__version__, gunicorn.__version__, str(os.getpid())]
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": " ".join(said).encode()})

app = App()

def create_app(name="made"):
    seen.append(name)
    return App()
"""


def uv() -> Path:
    return PROJECT / ".tools/bin/uv"


def run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@functools.cache
def ours() -> Path:
    """The directory of the server as site.yml makes it: uv checks that the pins are what the index has."""
    wheels = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__app_server_wheels"]
    pins = [
        "{}=={} --hash=sha256:{}".format(*Path(item["path"]).name.split("-")[:2], item["sha256"]) for item in wheels
    ]
    place = CACHE / "ours"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "pins.txt").write_text("\n".join(pins))
    install: list[str | Path] = [
        uv(),
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--python",
        sys.executable,
    ]
    run(*install, "--target", place / "packages", "-r", place / "pins.txt")
    shutil.copy(ROLE / "files/serve.py", place)
    return place


@functools.cache
def virtualenv(packages: tuple[str, ...], python: str = sys.executable) -> Path:
    name = re.sub(r"[^a-z0-9.=-]", "_", "+".join((Path(python).name, *packages)))
    place = CACHE / name
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        run(uv(), "venv", "--quiet", "--python", python, place)
        if packages:
            run(uv(), "pip", "install", "--quiet", "--python", place / "bin/python", *packages)
        (place / "complete").touch()
    return place


class Served:
    def __init__(self, directory: Path, process: subprocess.Popen[bytes]) -> None:
        self.directory, self.process = directory, process

    @property
    def output(self) -> str:
        return (self.directory / "output").read_text()

    def ask(self, path: str = "/") -> list[str]:
        connection = health._UnixConnection(self.directory / "http.sock", 10)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"X-Forwarded-Proto": "https"})
            answer = connection.answer()
            with contextlib.closing(answer):
                return answer.read().decode().split()

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.output
        return self.output


@contextlib.contextmanager
def serve(venv: Path, module: str = "served:app", app: str = APP, workers: int = 1) -> Iterator[Served]:
    directory = Path(tempfile.mkdtemp(prefix="server-"))  # short: it is part of the path of a socket
    (directory / "gunicorn.conf.py").write_text(render.render("app", "gunicorn.conf.py.j2", {"workers": workers}))
    (directory / "served.py").write_text(app)
    (directory / "run").mkdir()
    command: list[str | Path] = [venv / "bin/python", ours() / "serve.py", "--config", directory / "gunicorn.conf.py"]
    command += ["--bind", f"unix:{directory}/http.sock", module]
    known = {"PATH": os.environ["PATH"], "RUNTIME_DIRECTORY": f"{directory}/run", "ENDED": f"{directory}/ended"}
    with (directory / "output").open("wb") as file:
        process = subprocess.Popen(
            command, cwd=directory, env=known, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    served = Served(directory, process)
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                served.ask()
                break
            assert process.poll() is None, served.output
            assert time.monotonic() < deadline, served.output
            time.sleep(0.05)
        yield served
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(directory)


def websocket(served: Served) -> str:
    """A text that the app sends back over a WebSocket, by hand: the client's bytes are masked by zeros."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(served.directory / "http.sock"))
        sock.sendall(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        received = b""
        while b"\r\n\r\n" not in received:
            received += sock.recv(4096)
        assert received.startswith(b"HTTP/1.1 101"), received
        sock.sendall(b"\x81\x85\0\0\0\0hello")
        body = received.partition(b"\r\n\r\n")[2]
        while b"HELLO" not in body:
            part = sock.recv(4096)
            assert part, body
            body += part
        while b"\x88" not in body:
            part = sock.recv(4096)
            assert part, body
            body += part
        with contextlib.suppress(BrokenPipeError):  # a server need not wait for it
            sock.sendall(b"\x88\x80\0\0\0\0")
        return "HELLO"


VERSIONS = [
    ("uvicorn==0.12.0", "gunicorn==20.0.0", "setuptools<80", "websockets<12"),
    ("uvicorn==0.13.4", "wsproto"),
    ("uvicorn==0.17.6", "uvloop", "httptools", "websockets<12"),
    ("uvicorn==0.20.0", "websockets<12"),
    ("uvicorn==0.22.0", "websockets<12"),
    ("uvicorn==0.25.0", "wsproto"),
    ("uvicorn==0.29.0", "uvloop", "httptools", "websockets"),
    ("uvicorn==0.32.0", "websockets"),
    ("uvicorn==0.35.0", "uvloop", "websockets"),
    ("uvicorn", "uvloop", "httptools", "websockets"),
    ("uvicorn==0.34.0", "gunicorn==20.1.0", "setuptools<80", "websockets"),
    ("uvicorn", "gunicorn", "wsproto"),
    ("websockets",),
]


def wanted(packages: Sequence[str], name: str) -> str:
    """The version of a package that is pinned; "" without a pin."""
    return next((item.partition("==")[2] for item in packages if item.partition("==")[0] == name), "")


# The oldest uvicorn, an app with a Gunicorn of its own, and one with neither; those between are rows of the matrix.
ALWAYS = (VERSIONS[0], *VERSIONS[-2:])


@pytest.mark.slow
@pytest.mark.parametrize(
    "packages",
    [pytest.param(row, id="+".join(row), marks=[] if row in ALWAYS else pytest.mark.matrix) for row in VERSIONS],
)
def test_an_app_is_served_by_what_it_has_pinned_and_drained(packages: tuple[str, ...]) -> None:
    venv = virtualenv(packages)
    with serve(venv, workers=2) as served:
        started, scheme, uvicorn, gunicorn, _ = served.ask()
        assert (started, scheme) == ("started", "https")
        assert uvicorn == (wanted(packages, "uvicorn") or uvicorn)
        assert gunicorn == (wanted(packages, "gunicorn") or gunicorn)
        if "uvicorn" not in "".join(packages):
            assert (uvicorn, gunicorn) == ("0.39.0", "23.0.0")
        assert websocket(served) == "HELLO"
        slow = subprocess.Popen(
            [sys.executable, "-c", SLOW, str(served.directory / "http.sock")], stdout=subprocess.PIPE, text=True
        )
        time.sleep(0.7)
        output = served.stop()
        assert slow.communicate(timeout=10)[0].startswith("200 started https"), output
        assert (served.directory / "ended").read_text() == "ended\n" * 2, output
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert len(lines) == len(output.splitlines()), "every line of Gunicorn and Uvicorn is JSON"
    assert {"gunicorn.error", "uvicorn.error"} <= {line["logger"] for line in lines}
    assert not [line for line in lines if line["level"] in ("ERROR", "CRITICAL")], output


SLOW = """
import http.client, socket, sys
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("GET", "/slow", headers={"X-Forwarded-Proto": "https"})
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["served:create_app", "served:create_app()", "served:create_app('made')"])
def test_an_app_that_a_function_makes_is_made_once_a_worker(module: str) -> None:
    with serve(virtualenv(()), module) as served:
        assert served.ask()[:2] == ["made", "started"]


@pytest.mark.slow
def test_an_app_whose_lifespan_fails_or_that_cannot_be_loaded_ends_the_server() -> None:
    fails = APP.replace(
        "self.context = lifespan()",
        'return await send({"type": "lifespan.startup.failed", "message": "no database"})',
    )
    with pytest.raises(AssertionError, match="no database"), serve(virtualenv(()), app=fails):
        pass
    with pytest.raises(AssertionError, match="The app cannot be loaded"), serve(virtualenv(()), "served:absent"):
        pass


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced_and_one_that_works_is_not() -> None:
    hangs = APP.replace("await asyncio.sleep(1.5)", "__import__('time').sleep(60)")
    with serve(virtualenv(()), app=hangs) as served:
        configuration = served.directory / "gunicorn.conf.py"
        configuration.write_text(re.sub(r"^timeout = .*", "timeout = 2", configuration.read_text(), flags=re.MULTILINE))
        served.process.send_signal(signal.SIGHUP)
        time.sleep(2)
        first = served.ask()[-1]
        time.sleep(3)
        assert served.ask()[-1] == first, "a worker without requests lives on"
        with contextlib.suppress(OSError, http.client.HTTPException):
            served.ask("/slow")
        assert served.ask()[-1] != first
