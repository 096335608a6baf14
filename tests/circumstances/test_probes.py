"""Apps that answer by host name, scheme or headers are asked as Nginx asks them; what they refuse is explained."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, ClassVar

import pytest

from roles.app.filter_plugins import app_settings
from slipway.base import settings as config
from slipway.base.errors import RefusedError
from slipway.base.settings import Settings
from slipway.slot import health
from slipway.slot.health import Answer
from slipway.slot.watch import count_statuses
from tests.settings import written
from tests.templates import render

SHA = "a" * 40


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


class _App(BaseHTTPRequestHandler):
    """Keeps what it was asked, and gives the answer that a test has laid out."""

    asked: ClassVar[dict[str, Any]] = {}
    answer: ClassVar[tuple[int, dict[str, str], bytes]]

    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.asked.update(path=self.path, method=self.command, body=sent, headers=self.headers.items())
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  # the library's name

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Path]:
    """The socket of an app that is ready."""
    _App.asked.clear()
    _App.answer = 200, {}, json.dumps({"status": "ready", "sha": SHA, "pid": 7}).encode()
    path = tmp_path / "http.sock"
    with _Server(str(path), _App) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield path
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(config, "SETTINGS_DIRECTORY", tmp_path)
    url = "https://logbook.example.com:8443/health/ready"
    return config.parse(written(watch_url=url, health_path="/health/ready?deep=1"), source="test")


def headers() -> dict[str, str]:
    """Those of the last request; each was sent once."""
    names = [name.lower() for name, _ in _App.asked["headers"]]
    assert len(names) == len(set(names))
    return {name.lower(): value for name, value in _App.asked["headers"]}


def test_a_slot_is_asked_as_nginx_asks_it(settings: Settings, app: Path) -> None:
    """All that the template has Nginx send, but for what belongs to a connection."""
    answer = health.ask_slot(settings, app)
    assert replace(answer, seconds=0) == Answer(200, sha=SHA, pid=7)
    assert 0 < answer.seconds < 5
    assert _App.asked["path"] == "/health/ready?deep=1"
    sent = headers()
    nginx = render.render("nginx", "nginx.conf.j2", nginx_sites=render.sites())
    set_by_nginx = {name.lower() for name in re.findall(r"proxy_set_header (\S+) (?!\"\")", nginx)}
    assert set_by_nginx - {"connection", "upgrade"} <= set(sent)
    assert sent["x-forwarded-port"] == "8443"
    assert sent["host"] == sent["x-forwarded-host"] == "logbook.example.com:8443"
    assert sent["x-forwarded-proto"] == "https"
    assert sent["x-forwarded-for"] == "127.0.0.1"
    assert re.fullmatch(r"[0-9a-f]{32}", sent["x-request-id"])
    assert {"user-agent", "accept"} <= set(sent)


def test_the_authentication_check_asks_in_the_same_way_but_without_credentials(settings: Settings, app: Path) -> None:
    settings.health_headers_file.write_text(
        '{"X-Tenant": "one", "Authorization": "Bearer s3cret", "X-Api-Key": "s3cret"}'
    )
    _App.answer = 401, {}, b""
    assert health.ask_without_credentials(settings, app, "POST /api/v1/deployments").status == 401
    assert (_App.asked["path"], _App.asked["method"], _App.asked["body"]) == ("/api/v1/deployments", "POST", b"{}")
    sent = headers()
    assert (sent["host"], sent["x-forwarded-proto"]) == ("logbook.example.com:8443", "https")
    assert (sent["x-tenant"], sent["content-type"]) == ("one", "application/json")
    assert "s3cret" not in str(sent)
    health.ask_without_credentials(settings, app, "GET /api/v1/tokens")
    assert _App.asked["body"] == b""


def test_an_app_that_refuses_before_it_has_read_the_body_has_answered(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs up between the headers and the body, which the client sends in two parts."""
    path = tmp_path / "hasty.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        send = http.client.HTTPConnection.send
        sent: list[object] = []

        def slowly(connection: http.client.HTTPConnection, data: Any) -> None:
            send(connection, data)
            if not sent:
                accepted, _ = listening.accept()
                with accepted:
                    accepted.recv(65536)
                    accepted.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            sent.append(data)

        monkeypatch.setattr(http.client.HTTPConnection, "send", slowly)
        assert health.ask_without_credentials(settings, path, "POST /guarded").status == 403


def test_headers_of_the_apps_own_are_sent_and_take_precedence(settings: Settings, app: Path) -> None:
    settings.health_headers_file.write_text('{"X-Health-Token": "s3cret", "user-agent": "Mozilla/5.0"}')
    health.ask_slot(settings, app)
    assert (headers()["x-health-token"], headers()["user-agent"]) == ("s3cret", "Mozilla/5.0")


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "{s3cret"])
def test_a_damaged_file_of_headers_is_refused_without_its_content(settings: Settings, app: Path, content: str) -> None:
    settings.health_headers_file.write_text(content)
    with pytest.raises(RefusedError, match=r"Run site\.yml to write it again") as caught:
        health.ask_slot(settings, app)
    assert "s3cret" not in str(caught.value)


def test_a_missing_socket_is_an_answer_with_a_problem(settings: Settings, tmp_path: Path) -> None:
    answer = health.ask_slot(settings, tmp_path / "none.sock")
    assert (answer.status, answer.ok) == (0, False)
    assert "FileNotFoundError" in answer.sentence


@pytest.mark.parametrize(
    ("status", "location", "body", "sentence"),
    [
        (307, "https://logbook.example.com:8443/health/ready?deep=1", b"", "does not read X-Forwarded-Proto"),
        (301, "https://www.example.com/health/ready?token=s3cret", b"", "to another host, set health_host to that one"),
        (307, "https://logbook.example.com:8443/health/ready/", b"", "set it to the path that it leads to"),
        (302, "/login", b"", "HTTP 302: Location: /login; health_path must answer by itself"),
        (302, "https://[broken", b"", "Location: https://[broken"),
        (400, "", b"Invalid host header", "HTTP 400: Invalid host header; if it is about the host, the app must allow"),
        (401, "", b'{"detail":"Not authenticated"}', "HTTP 401: Not authenticated; health_path must answer without"),
        (404, "", b'{"detail":"Not Found"}', "the app has nothing at /health/ready?deep=1: set health_path"),
        (429, "", b"", "HTTP 429: the app must not limit how often"),
        (422, "", b"", "the app wants a parameter"),
        (503, "", b'{"status":"starting"}', "HTTP 503: starting"),
        (500, "", b"", "HTTP 500"),
    ],
)
def test_an_answer_that_is_not_ready_is_explained_in_a_sentence(
    settings: Settings, app: Path, status: int, location: str, body: bytes, sentence: str
) -> None:
    _App.answer = status, {"Location": location} if location else {}, body
    answer = health.ask_slot(settings, app)
    assert not answer.ok
    assert sentence in answer.sentence
    assert "s3cret" not in answer.sentence
    gate = health.Gate(sha=SHA, workers=1, answers=1)
    gate.observe(answer)
    assert gate.problem == answer.sentence


def test_an_answer_without_content_is_ready(settings: Settings, app: Path) -> None:
    _App.answer = 204, {}, b""
    assert health.ask_slot(settings, app).ok
    assert not Answer(202).ok


def test_health_requests_with_a_query_do_not_count_as_those_of_clients() -> None:
    given = {"status": 500, "upstream_status": "500"}
    lines = [json.dumps({**given, "uri": uri}) for uri in ("/health/ready", "/a%20b", "/")]
    assert count_statuses(lines, "/health/ready?deep=1") == (2, 2)
    assert count_statuses(lines, "/a%20b") == (2, 2)


# What is declared


@pytest.mark.parametrize(
    ("domains", "declared", "url"),
    [
        (["a.example.com", "b.example.com"], {}, "https://a.example.com/h"),
        (["a.example.com", "b.example.com"], {"health_host": "b.example.com"}, "https://b.example.com/h"),
        (["::1"], {}, "https://[::1]/h"),
        (["a.example.com"], {"https_port": 8443}, "https://a.example.com:8443/h"),
    ],
)
def test_a_release_is_asked_for_under_a_name_that_clients_use(
    domains: list[str], declared: dict[str, Any], url: str
) -> None:
    given = {"domains": domains, "health_path": "/h", "env": {"SECRET_KEY": "x"}, **declared}
    assert refusals(**given) == []
    text = render.render("app", "app.toml.j2", settings=given)
    assert re.findall(r'^watch_url = "(.*)"$', text, re.MULTILINE) == [url]


def refusals(**declared: Any) -> list[str]:
    settings = app_settings.complete({"domains": ["a.example.com"], "env": {"SECRET_KEY": "x"}, **declared})
    return app_settings.faults(settings, "logbook", "prod", settings["env"])


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({"health_host": "b.example.com"}, "health_host is 'b.example.com', which is none of the app's domains"),
        ({"health_path": "health"}, "health_path is 'health', but must be a path of the app"),
        ({"health_path": "/a b"}, "must be a path of the app"),
        ({"health_path": "/a#b"}, "must be a path of the app"),
        ({"health_headers": {"X_Token": "s3cret"}}, "health_headers: 'X_Token' is no name that Nginx passes on."),
        ({"health_headers": {"Host": "s3cret"}}, "health_headers: Host is set by Nginx for every request."),
        ({"health_headers": {"X-Forwarded-Proto": "s3cret"}}, "X-Forwarded-Proto is set by Nginx"),
        ({"health_headers": {"X-Token": 12345}}, "health_headers.X-Token must be a text"),
        ({"health_headers": {"X-Token": "s3cret\r\nX: y"}}, "health_headers.X-Token must be a text in one line"),
    ],
)
def test_what_could_never_be_asked_is_refused_without_a_secret(declared: dict[str, Any], sentence: str) -> None:
    (found,) = refusals(**declared)
    assert sentence in found
    assert "s3cret" not in found
