"""The app as it runs on a host: Gunicorn with the role's configuration, on a unix socket."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from roles.app.filter_plugins import app_settings

PROJECT = Path(__file__).resolve().parents[2]
WORKERS = 2


@dataclass(frozen=True)
class Served:
    """A running server: its socket, and the file with its output."""

    path: Path
    output: Path
    process: subprocess.Popen[bytes]

    def client(self) -> httpx.Client:
        """A client that makes a new connection for each request, so that each may go to another worker."""
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(self.path)), base_url="http://logbook.test")

    def stop(self) -> str:
        """Stop it like systemd does; its whole output."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.output.read_text()
        return self.output.read_text()


class CrashedError(Exception):
    """The server ended before it answered; the message is its output."""


def gunicorn_conf() -> str:
    """The role's template, rendered with the role's defaults."""
    role = PROJECT / "roles/app"
    variables = {
        "ansible_managed": "Ansible managed",
        "app_name": "logbook",
        "__app_workers": WORKERS,
        "__app_settings": app_settings.complete({}),
    }
    source = trust_as_template((role / "templates/gunicorn.conf.py.j2").read_text())
    rendered: str = Templar(loader=DataLoader(), variables=variables).template(source, escape_backslashes=False)
    return rendered


@contextlib.contextmanager
def serve(module: str, environment: dict[str, str]) -> Iterator[Served]:
    """Start the server and wait until it answers; kill it at the end if it was not stopped.

    `module` is the source of `served`, which must have an `app`.
    """
    directory = Path(tempfile.mkdtemp(prefix="served-"))  # short: the path of a unix socket may have 107 characters
    (directory / "gunicorn.conf.py").write_text(gunicorn_conf())
    (directory / "served.py").write_text(module)
    (directory / "run").mkdir()
    path, output = directory / "http.sock", directory / "output"
    command = [sys.executable, "-m", "gunicorn", "--config", str(directory / "gunicorn.conf.py")]
    command += ["--pythonpath", str(directory), "--bind", f"unix:{path}", "served:app"]
    known = {"PATH": os.environ["PATH"], "RUNTIME_DIRECTORY": str(directory / "run")}
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**known, **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, so that its workers can be killed with it
        )
    served = Served(path, output, process)
    try:
        _wait_until_all_answer(served)
        yield served
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(directory)


def _wait_until_all_answer(served: Served) -> None:
    seen: set[int] = set()
    deadline = time.monotonic() + 30
    while len(seen) < WORKERS:
        if served.process.poll() is not None:
            raise CrashedError(served.output.read_text())
        assert time.monotonic() < deadline, served.output.read_text()
        if pid := _who_answers(served.path):
            seen.add(pid)
        else:
            time.sleep(0.1)


def _who_answers(path: Path) -> int | None:
    # By hand: httpx forgets to close a socket that it could not connect.
    with socket.socket(socket.AF_UNIX) as asking, contextlib.suppress(OSError, ValueError):
        asking.settimeout(10)
        asking.connect(str(path))
        asking.sendall(b"GET /health/ready HTTP/1.0\r\nHost: logbook.test\r\n\r\n")
        answer = b"".join(iter(lambda: asking.recv(65536), b""))
        pid: int = json.loads(answer.partition(b"\r\n\r\n")[2])["pid"]
        return pid
    return None
