"""Health requests to a release: over its slot's own socket, and through Nginx.

Both look to the app like a client's request that Nginx passes on: an app that answers by host name, scheme or other
headers must not be judged by a request that no client could send.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from slipway.base import files
from slipway.base.errors import RefusedError
from slipway.base.settings import Settings

_SAID = 1000  # characters of what an app says

READY = (200, 204)  # HTTP statuses of a release that can take traffic

TOO_MANY = 429
_SLOW_DOWN = 0.5  # seconds between two requests after the first such answer; twice as many after each further one
_SLOWEST = 8.0

# What the authentication check leaves out of the app's health_headers: it is about a request without credentials.
CREDENTIALS = ("authorization", "cookie", "proxy-authorization", "x-api-key")


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
    location: str = ""  # where a redirect leads
    hint: str = ""  # the likely cause of an answer that is not ready
    accepted: tuple[int, ...] = READY  # the statuses that are ready

    @property
    def sentence(self) -> str:
        """Why it is not ready: status, what the app said, and the likely cause."""
        said = "; ".join(part for part in (self.problem, self.hint) if part)
        if not self.status:
            return said
        return f"HTTP {self.status}: {said}" if said else f"HTTP {self.status}"

    @property
    def ok(self) -> bool:
        return self.status in self.accepted

    @property
    def is_limited(self) -> bool:
        """The app, or what is before it, only says that it is asked too often: that says nothing of the release."""
        return self.status == TOO_MANY and not self.ok


class _Received(io.RawIOBase):
    """What comes from a socket until a moment of the monotonic clock, after which reading fails.

    The time limit of a socket is one for each read: an answer that comes byte by byte would never reach it.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._sock.recv_into(buffer)


class _Connection(http.client.HTTPConnection):
    """One request whose `timeout` seconds are for all of it, from now on."""

    def __init__(self, host: str, port: int | None, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._deadline = time.monotonic() + timeout

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def answer(self) -> http.client.HTTPResponse:
        """The answer to the request that was sent."""
        assert self.sock is not None  # noqa: S101  # a request was sent
        response = http.client.HTTPResponse(self.sock, method=self._method)  # type: ignore[attr-defined]
        response.fp.close()
        response.fp = io.BufferedReader(_Received(self.sock, self._deadline))
        response.begin()
        return response


class _UnixConnection(_Connection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", None, timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._left())
        self.sock.connect(str(self._path))


class _LoopbackTLSConnection(_Connection):
    """TLS to the Nginx of this host, with the site's name as server name, but without resolving it.

    The certificate is not verified: an expired one must not stop a deploy. `slipway status` shows it.
    """

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port), self._left())
        plain.settimeout(self._left())
        self.sock = _unverified().wrap_socket(plain, server_hostname=self.host)


@functools.cache
def _unverified() -> ssl.SSLContext:
    """Made once, and without the authorities that are not asked for anyway: to read them takes 25 ms each time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ask_slot(settings: Settings, path: Path, timeout: float = 5) -> Answer:
    """Send one health request on a new connection to a slot's socket."""
    headers = {**_as_nginx_does(settings), **own_headers(settings)}
    _PACE.wait(settings)
    answer = _ask(_UnixConnection(path, timeout), settings.health_path, headers, accepted=settings.health_status)
    return _PACE.noted(answer)


def ask_without_credentials(settings: Settings, path: Path, request: str, timeout: float = 5) -> Answer:
    """Send a request such as `POST /api/v1/deployments` to a slot, without credentials."""
    method, _, url_path = request.partition(" ")
    own = {name: value for name, value in own_headers(settings).items() if name.lower() not in CREDENTIALS}
    body = None if method in ("GET", "DELETE") else b"{}"
    return _ask(_UnixConnection(path, timeout), url_path, {**_as_nginx_does(settings), **own}, method, body)


def ask_site(settings: Settings, timeout: float = 5) -> Answer:
    """Send one health request through Nginx at 127.0.0.1, with the name of the site as server name and as Host."""
    parts = urlsplit(settings.watch_url)
    headers = {**_as_a_client_does(settings), **own_headers(settings)}
    _PACE.wait(settings)
    connection = _LoopbackTLSConnection(parts.hostname or "localhost", settings.watch_port, timeout)
    return _PACE.noted(_ask(connection, settings.health_path, headers, accepted=settings.health_status))


def served_certificate(settings: Settings, timeout: float = 5) -> str:
    """The certificate, as PEM, that Nginx shows to clients of the site; "" when it shows none."""
    parts = urlsplit(settings.watch_url)
    connection = _LoopbackTLSConnection(parts.hostname or "localhost", settings.watch_port, timeout)
    try:
        connection.connect()
        shown = connection.sock.getpeercert(binary_form=True) if isinstance(connection.sock, ssl.SSLSocket) else None
    except OSError:
        return ""
    finally:
        connection.close()
    return ssl.DER_cert_to_PEM_cert(shown) if shown else ""


def _as_a_client_does(settings: Settings) -> dict[str, str]:
    return {"Host": host(settings), "User-Agent": "slipway", "Accept": "*/*", "Connection": "close"}


def _as_nginx_does(settings: Settings) -> dict[str, str]:
    """The headers with which roles/nginx/templates/nginx.conf.j2 passes on such a request of a client on this host."""
    return {
        **_as_a_client_does(settings),
        "X-Request-ID": uuid.uuid4().hex,
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": host(settings),
        "X-Forwarded-Port": str(urlsplit(settings.watch_url).port or 443),
    }


def host(settings: Settings) -> str:
    """The name, with the port if it is not 443, under which health requests ask for the app."""
    return urlsplit(settings.watch_url).netloc or "localhost"


def own_headers(settings: Settings) -> dict[str, str]:
    """The app's `health_headers`; RefusedError when they cannot be read. No value is ever part of a message."""
    path = settings.health_headers_file
    try:
        found: Any = files.decode_json(files.read_text(path))
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise RefusedError(f"{path} is not a mapping of texts. Run site.yml to write it again.")
    return found


def _ask(
    connection: _Connection,
    path: str,
    headers: Mapping[str, str],
    method: str = "GET",
    body: bytes | None = None,
    accepted: Sequence[int] = READY,
) -> Answer:
    sent = {name.lower(): (name, value) for name, value in headers.items()}  # the last one of a name counts
    if body is not None:
        sent["content-type"] = ("Content-Type", "application/json")
    started = time.monotonic()
    try:
        with contextlib.suppress(BrokenPipeError):  # an app may answer, and hang up, before it has read the body
            connection.request(method, path, body, dict(sent.values()))
        response = connection.answer()
        location = response.headers.get("Location") or ""
        answer = read_answer(response.status, response.read(65536), location, tuple(accepted))
        if not answer.ok:
            answer = replace(answer, hint=explain(answer, path, headers["Host"]))
    except (OSError, http.client.HTTPException) as error:
        answer = Answer(0, problem=f"{type(error).__name__}: {error}".rstrip(": "), accepted=tuple(accepted))
    finally:
        connection.close()
    return replace(answer, seconds=time.monotonic() - started)


def explain(answer: Answer, path: str, asked_as: str) -> str:
    """The likely cause of an answer that is not ready, and what to change; "" when the status says enough.

    `asked_as` is the header Host of the request.
    """
    if 300 <= answer.status < 400 and answer.location:
        return _explain_redirect(answer.location, path, asked_as)
    return {
        400: f"if it is about the host, the app must allow the host {asked_as}, which health requests ask for as "
        "clients do (allowed_hosts of TrustedHostMiddleware); or set health_host to another one of its domains",
        401: "health_path must answer without credentials, or set health_headers",
        403: "health_path must answer without credentials, or set health_headers",
        404: f"the app has nothing at {path}: set health_path to where it tells that it is ready",
        405: "health requests are GET",
        406: "health requests accept every type (Accept: */*), or set health_headers",
        421: f"the app must serve the host {asked_as}, or set health_host to another one of its domains",
        422: "the app wants a parameter: give it in health_path, or in health_headers",
        429: "the app must not limit how often health_path is asked; or set health_every to the seconds between two "
        "requests that it allows, or take 429 into health_status",
    }.get(answer.status, "")


def _explain_redirect(location: str, path: str, asked_as: str) -> str:
    try:
        target = urlsplit(location)
    except ValueError:
        return f"Location: {location[:200]}"
    shown = location.partition("?")[0][:200]  # what follows may be a token
    said = f"Location: {shown}; health_path must answer by itself"
    if target.netloc and target.netloc.lower() != asked_as.lower():
        return f"{said}: the app sends clients from {asked_as} to another host, set health_host to that one"
    if unquote(target.path or "/") == unquote(path.partition("?")[0]):
        return f"{said}: the app redirects to where it was asked, so it does not read X-Forwarded-Proto, which is https"
    return f"{said}: set it to the path that it leads to, or take it out of what redirects"


def read_answer(status: int, body: bytes, location: str = "", accepted: tuple[int, ...] = READY) -> Answer:
    """Parse a health answer. Of a body that is not a JSON object only the status counts."""
    ready = status in accepted
    try:
        value: Any = files.decode_json(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return Answer(
            status, problem="" if ready else body[:200].decode(errors="replace"), location=location, accepted=accepted
        )
    sha, pid = value.get("sha"), value.get("pid")
    return Answer(
        status,
        sha=sha if isinstance(sha, str) else None,
        pid=pid if isinstance(pid, int) else None,
        problem="" if ready else _said(value.get("detail") or value.get("status") or ""),
        location=location,
        accepted=accepted,
    )


def _said(value: object) -> str:
    """What an answer says of itself, whatever it is."""
    try:
        return str(value)[:_SAID]
    except RecursionError:
        return "its parts are nested too deeply"


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
        """Count one answer. An answer that is not ready resets the count, unless it only says: not so often."""
        if answer.is_limited:
            self.problem = answer.sentence
        elif not answer.ok:
            self.problem = answer.sentence
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


class _Pace:
    """Keeps a time between two health requests: that of the setting, or a longer one when the app says so (429)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # clients are watched in a thread beside the phase
        self._next = 0.0
        self._pause = 0.0

    def wait(self, settings: Settings) -> None:
        """Wait until the next request may be sent."""
        with self._lock:
            at = max(time.monotonic(), self._next)
            self._next = at + max(settings.health_every, self._pause)
        time.sleep(max(0.0, at - time.monotonic()))

    def noted(self, answer: Answer) -> Answer:
        """The answer, which may say that requests have to become fewer."""
        if answer.is_limited:
            with self._lock:
                self._pause = min(_SLOWEST, max(_SLOW_DOWN, self._pause * 2))
                self._next = max(self._next, time.monotonic() + self._pause)
        return answer


_PACE = _Pace()


def patience(settings: Settings, workers: int) -> float:
    """Seconds that the pauses between requests add, until each of so many workers has given its ready answers."""
    return workers * settings.start_answers * settings.health_every


def wait_briefly(started: float) -> None:
    """Pause between two requests: 20 ms at first, so that a fast app is noticed at once, later up to 250 ms."""
    time.sleep(min(0.25, max(0.02, (time.monotonic() - started) / 20)))
