"""Health requests to a release: over its slot's own socket, and through Nginx."""

from __future__ import annotations

import functools
import http.client
import json
import socket
import ssl
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """The answer to a health request, and how many seconds it took.

    `status` is 0 when there was no HTTP answer. `pid` is the process number of the worker.
    """

    status: int
    sha: str | None = None
    pid: int | None = None
    problem: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == 200


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _LoopbackTLSConnection(http.client.HTTPSConnection):
    """TLS to the Nginx of this host, with the site's name as server name, but without resolving it.

    The certificate is not verified: an expired one must not stop a deploy. `slipway status` shows it.
    """

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self._tls = _unverified()
        super().__init__(host, port, timeout=timeout, context=self._tls)

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


@functools.cache
def _unverified() -> ssl.SSLContext:
    """Made once, and without the authorities that are not asked for anyway: to read them takes 25 ms each time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ask_slot(path: Path, url_path: str, timeout: float = 5) -> Answer:
    """Send one request on a new connection to a slot's socket."""
    return _ask(_UnixConnection(path, timeout), url_path, "localhost")


def ask_without_credentials(path: Path, request: str, timeout: float = 5) -> Answer:
    """Send a request such as `POST /api/v1/deployments` to a slot, without credentials."""
    method, _, url_path = request.partition(" ")
    body = None if method in ("GET", "DELETE") else b"{}"
    return _ask(_UnixConnection(path, timeout), url_path, "localhost", method, body)


def ask_site(url: str, port: int, timeout: float = 5) -> Answer:
    """Send one request through Nginx at 127.0.0.1, with the URL's host as server name and as header Host."""
    parts = urlsplit(url)
    connection = _LoopbackTLSConnection(parts.hostname or "localhost", port, timeout)
    return _ask(connection, parts.path or "/", parts.netloc)


def _ask(
    connection: http.client.HTTPConnection, path: str, host: str, method: str = "GET", body: bytes | None = None
) -> Answer:
    headers = {"Host": host, "User-Agent": "slipway", "Connection": "close"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    started = time.monotonic()
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = read_answer(response.status, response.read(65536))
    except (OSError, http.client.HTTPException) as error:
        answer = Answer(0, problem=f"{type(error).__name__}: {error}".rstrip(": "))
    finally:
        connection.close()
    return replace(answer, seconds=time.monotonic() - started)


def read_answer(status: int, body: bytes) -> Answer:
    """Parse a health answer. Of a body that is not a JSON object only the status counts."""
    try:
        value: Any = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return Answer(status, problem="" if status == 200 else body[:200].decode(errors="replace"))
    sha, pid = value.get("sha"), value.get("pid")
    return Answer(
        status,
        sha=sha if isinstance(sha, str) else None,
        pid=pid if isinstance(pid, int) else None,
        problem="" if status == 200 else str(value.get("detail") or value.get("status") or ""),
    )


@dataclass
class Gate:
    """Decides from health answers whether a release may take traffic.

    It opens after `answers` ready answers from each of `workers` workers, all from the commit `sha`, and with no failed
    answer in between. An app whose answers have no `pid` must give `answers` x `workers` ready answers in a row.
    """

    sha: str
    workers: int
    answers: int
    by_worker: dict[int | None, int] = field(default_factory=dict)
    problem: str = "no answer yet"

    def observe(self, answer: Answer) -> None:
        """Count one answer. An answer that is not ready resets the count."""
        if not answer.ok:
            self.problem = f"HTTP {answer.status}: {answer.problem}" if answer.status else answer.problem
            self.by_worker.clear()
        elif answer.sha is not None and answer.sha != self.sha:
            self.problem = f"the answer came from commit {answer.sha[:12]}, not {self.sha[:12]}"
            self.by_worker.clear()
        else:
            self.by_worker[answer.pid] = self.by_worker.get(answer.pid, 0) + 1
            self.problem = f"{len(self.by_worker)} of {self.workers} workers answered"

    @property
    def is_open(self) -> bool:
        if None in self.by_worker:
            return self.by_worker[None] >= self.answers * self.workers
        return len(self.by_worker) == self.workers and min(self.by_worker.values()) >= self.answers

    @property
    def all_answered(self) -> bool:
        """Every worker has given a ready answer; of an app that does not name them that is not known."""
        return len(self.by_worker) >= self.workers

    @property
    def lost_worker(self) -> bool:
        """Whether more workers answered than there are: then one crashed after it was ready, and was replaced."""
        return len(self.by_worker) > self.workers


def wait_briefly(started: float) -> None:
    """Pause between two requests: 20 ms at first, so that a fast app is noticed at once, later up to 250 ms."""
    time.sleep(min(0.25, max(0.02, (time.monotonic() - started) / 20)))
