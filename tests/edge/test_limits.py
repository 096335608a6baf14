"""Who may reach the app, how often, and what Nginx says to all others.

127.0.0.1, from where the tests ask, is let through by everything. So it is a trusted proxy here, and speaks for others.
"""

from __future__ import annotations

import base64
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.templates import judges

from . import attacks
from . import edge as edges
from .edge import NAME, Edge, Reply

VIA = "location /via/ {\n    proxy_pass http://logbook;\n}"  # of a snippet
PROXY: dict[str, Any] = {"nginx_trusted_proxies": ["127.0.0.1/32", "198.51.100.0/24"]}


def ask(edge: Edge, address: str, target: str = "/", *headers: str, **request: Any) -> Reply:
    """As that client, or without one as the host itself."""
    said = [f"X-Forwarded-For: {address}"] if address else []
    return edge.get(target, *said, *headers, **request)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An app for two networks, and one person."""
    hashed = judges.run(judges.product("openssl"), "passwd", "-6", "correct horse").strip()
    directory = tmp_path_factory.mktemp("closed")
    settings = {
        "allow_from": ["192.0.2.0/24", "2001:db8::/32"],
        "basic_auth": [f"alice:{hashed}"],
        "nginx_snippet": "location = /old {\n    return 308 /new;  # it has moved\n}\n" + VIA,
    }
    (directory / "passwords").write_text(f"{settings['basic_auth'][0]}\n")
    with edges.running(directory, settings, **PROXY) as found:
        yield found


def authorization(given: str = "correct horse") -> str:
    return f"Authorization: Basic {base64.b64encode(f'alice:{given}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("203.0.113.5", b"203.0.113.5"),
        ("6.6.6.6, 203.0.113.5", b"203.0.113.5"),
        ("203.0.113.5, 198.51.100.9", b"203.0.113.5"),
        ("127.0.0.1, 203.0.113.5", b"203.0.113.5"),
        ("2001:db8::7", b"2001:db8::7"),
        ("nonsense", b"127.0.0.1"),
        ("", b"127.0.0.1"),
    ],
)
def test_a_trusted_proxy_says_who_the_client_is(limited: Edge, said: str, seen: bytes) -> None:
    limited.app.requests.clear()
    assert ask(limited, said, "/", "X-Real-IP: 7.7.7.7").status == 200
    (request,) = limited.app.requests
    assert b"\r\nX-Forwarded-For: " + seen + b"\r\n" in request
    assert b"7.7.7.7" not in request


def test_nobody_else_is_believed(edge: Edge) -> None:
    assert edge.get("/", "X-Forwarded-For: 203.0.113.5").status == 200
    assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in edge.app.requests[0]


def test_only_listed_addresses_reach_the_app(closed: Edge) -> None:
    closed.app.requests.clear()
    for address in ("203.0.113.5", "192.0.3.1", "2001:db9::1", "127.0.0.1, 203.0.113.5"):
        for target in ("/", "/health/ready", "/x/y", "/via/x"):
            answer = ask(closed, address, target, authorization())
            assert (answer.status, answer.json()["title"]) == (403, "Forbidden")
    assert closed.app.requests == []
    for address in ("192.0.2.7", "2001:db8:1::7", ""):
        assert ask(closed, address, "/", authorization()).status == 200


def test_a_password_is_asked_for_and_not_passed_on(closed: Edge) -> None:
    closed.app.requests.clear()
    for wrong in ("X-None: 1", authorization("wrong"), "Authorization: Bearer x"):
        for target in ("/", "/health/ready", "/via/x"):
            answer = ask(closed, "192.0.2.7", target, wrong)
            assert (answer.status, answer.one("www-authenticate")) == (401, 'Basic realm="Restricted"')
            assert answer.json()["title"] == "Unauthorized"
    assert closed.app.requests == []
    assert ask(closed, "192.0.2.7", "/", authorization()).status == 200
    assert b"uthorization" not in closed.app.requests[0]


def test_the_host_itself_needs_no_password_and_keeps_its_own_credentials(closed: Edge) -> None:
    closed.app.requests.clear()
    assert ask(closed, "", "/health/ready", "Authorization: Bearer own").status == 200
    assert b"\r\nAuthorization: Bearer own\r\n" in closed.app.requests[0]


def test_a_snippet_is_part_of_the_site(closed: Edge) -> None:
    answer = ask(closed, "192.0.2.7", "/old", authorization())
    assert (answer.status, answer.one("location")) == (308, "/new")
    assert answer.one("x-frame-options") == "DENY"
    assert ask(closed, "192.0.2.7", "/via/x", authorization()).status == 200


@pytest.mark.parametrize("said", ["127.0.0.1", "127.0.0.1, 198.51.100.9", "::1", "::1, 127.0.0.2, 198.51.100.9"])
def test_a_proxy_does_not_speak_for_the_host_itself(tmp_path: Path, said: str) -> None:
    """Its client has named the host, which passes whatever is closed for others: limits, passwords, maintenance."""
    proxies = {"nginx_trusted_proxies": ["127.0.0.2/32", "198.51.100.0/24"]}
    settings = {"allow_from": ["192.0.2.0/24"], "maintenance_allow": []}
    with edges.running(tmp_path, settings, host="127.0.0.1/32", **proxies) as edge:
        proxy = dataclasses.replace(edge, source="127.0.0.2")
        for target in ("/", "/health/ready", "/.slipway/x", "/metrics"):
            answer = ask(proxy, said, target)
            assert (answer.status, answer.json()["title"]) == (400, "Bad Request")
        assert edge.app.requests == []
        assert ask(proxy, "192.0.2.7").status == 200
        assert ask(proxy, "203.0.113.5").status == 403
        assert ask(edge, said).status == 200, "the host itself is no proxy, and is not asked for whom it speaks"


# Limits


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    settings = {
        "requests_per_second": 5,
        "concurrent_requests": 6,
        "concurrent_uploads": 2,
        "unlimited_from": ["192.0.2.0/24"],
        "nginx_snippet": VIA,
    }
    with edges.running(tmp_path_factory.mktemp("limited"), settings, **PROXY) as found:
        yield found


def test_too_many_requests_of_one_address_are_told_to_wait(limited: Edge) -> None:
    statuses = [ask(limited, "203.0.113.6").status for _ in range(40)]
    assert statuses[:11] == [200] * 11  # the first, and a burst of twice the rate
    assert statuses.count(429) >= 20
    answer = ask(limited, "203.0.113.6", "/", "Accept: text/html")
    assert (answer.status, answer.one("retry-after")) == (429, "1")
    assert answer.one("content-type").startswith("text/html")
    assert {ask(limited, "203.0.113.7").status for _ in range(3)} == {200}
    assert [entry["upstream_status"] for entry in limited.log() if entry["status"] == 429][:3] == ["", "", ""]


def test_a_location_of_a_snippet_has_the_same_limit(limited: Edge) -> None:
    assert [ask(limited, "203.0.113.9", "/via/x").status for _ in range(40)].count(429) >= 20
    assert ask(limited, "203.0.113.9").status == 429


def test_addresses_that_are_exempt_have_no_limit(limited: Edge) -> None:
    assert {ask(limited, "192.0.2.7").status for _ in range(40)} == {200}
    assert {ask(limited, "").status for _ in range(40)} == {200}


def test_addresses_of_one_ipv6_network_share_their_limit(limited: Edge) -> None:
    statuses = [ask(limited, f"2001:db8:7:9:{number:x}::1").status for number in range(1, 40)]
    assert statuses.count(429) >= 20
    assert ask(limited, "2001:db8:7:a::1").status == 200


@pytest.mark.parametrize(("method", "allowed"), [("GET", 6), ("POST", 2)])
def test_only_so_many_requests_of_one_address_are_under_way(limited: Edge, method: str, allowed: int) -> None:
    """What waits are those that the app works on, or those whose body does not come."""
    done = threading.Event()
    limited.app.answer = lambda request: (done.wait(10), edges.ok(request))[1]
    request = f"{method} / HTTP/1.1\r\nHost: {NAME}\r\nX-Forwarded-For: 203.0.113.10{allowed}\r\n"
    request += "Content-Length: 9\r\n\r\nhalf" if method == "POST" else "\r\n"
    connections = [limited.connect() for _ in range(10)]
    try:
        for connection in connections:
            connection.sendall(request.encode())
            connection.settimeout(0.3)
        statuses = [Reply.parse(edges.read_all(connection)).status for connection in connections]
    finally:
        done.set()
        limited.app.answer = edges.ok
        for connection in connections:
            connection.close()
    assert statuses.count(429) == 10 - allowed
    assert statuses.count(0) == allowed


def test_streams_of_http_2_count_each(limited: Edge) -> None:
    statuses = []
    for _ in range(40):
        with limited.connect("h2") as connection:
            address = ("x-forwarded-for", "203.0.113.8")
            attacks.send_http2(connection, NAME, [*attacks.HTTP2["path empty"][:3], (":path", "/"), address], body=b"")
            statuses.append(attacks.status(attacks.wait_for_end(connection)))
    assert statuses.count(429) >= 20


def test_limits_can_be_turned_off(tmp_path: Path) -> None:
    off = {"requests_per_second": 0, "concurrent_requests": 0, "concurrent_uploads": 0}
    with edges.running(tmp_path, off, **PROXY) as edge:
        assert {ask(edge, "203.0.113.5").status for _ in range(60)} == {200}


# Maintenance


def test_an_app_under_maintenance_is_closed_by_a_rename(tmp_path: Path) -> None:
    with edges.running(tmp_path, {"maintenance_allow": ["192.0.2.7"]}, **PROXY) as edge:
        switch = edge.directory / "maintenance"
        (switch / "logbook.new").touch()
        assert ask(edge, "203.0.113.5").status == 200
        (switch / "logbook.new").rename(switch / "logbook.on")
        edge.app.requests.clear()
        answer = ask(edge, "203.0.113.5", "/x", method="POST", body=b"data")
        assert (answer.status, answer.one("retry-after"), answer.json()["status"]) == (503, "5", 503)
        assert ask(edge, "203.0.113.5", "/x", "Accept: text/html").one("content-type").startswith("text/html")
        assert edge.app.requests == []
        for address, target in (("192.0.2.7", "/x"), ("", "/x"), ("203.0.113.5", "/health/ready")):
            assert ask(edge, address, target).status == 200
        assert ask(edge, "203.0.113.5", "/health/%2e%2e/x").status == 400
        for target in ("/.slipway/x", "/metrics"):
            assert ask(edge, "203.0.113.5", target).status == 503
        (switch / "logbook.on").rename(switch / "logbook.off")
        assert ask(edge, "203.0.113.5").status == 200


def test_only_what_is_the_apps_waits(tmp_path: Path) -> None:
    """The socket of those that wait leads to the app: an address that never does must not wait for it."""
    with edges.running(tmp_path, {"nginx_snippet": f"location = /old {{ return 308 /new; }}\n{VIA}"}, **PROXY) as edge:
        (edge.directory / "maintenance/logbook.hold").touch()
        held = edges.App(tmp_path / "logbook.sock")
        with held.running():
            for target in ("/metrics", "/metrics/x", "/.slipway/problem"):
                assert ask(edge, "203.0.113.5", target).status == 404
            assert ask(edge, "203.0.113.5", "/old").status == 308
            assert held.requests == []
            assert ask(edge, "203.0.113.5", "/via/x").status == 200
            assert (len(held.requests), len(edge.app.requests)) == (0, 1), "a snippet leads where it says"
            assert ask(edge, "203.0.113.5", "/.slipway/x").status == 200
            assert (len(held.requests), len(edge.app.requests)) == (1, 1)


def test_a_request_that_waits_goes_whole_to_another_socket_and_only_for_those_who_may(tmp_path: Path) -> None:
    settings = {"allow_from": ["192.0.2.0/24", "203.0.113.0/24"], "maintenance_allow": ["192.0.2.7"]}
    with edges.running(tmp_path, settings, **PROXY) as edge:
        (edge.directory / "maintenance/logbook.hold").touch()
        closed = ask(edge, "203.0.113.5", "/x")
        assert (closed.status, closed.json()["status"], closed.one("retry-after")) == (503, 503, "5"), "nobody listens"
        held = edges.App(tmp_path / "logbook.sock")
        with held.running():
            answer = ask(edge, "203.0.113.5", "/x/%2ey?q=%2f", "X-Real-IP: 6.6.6.6", method="PUT", body=b"data")
            assert answer.status == 200
            assert ask(edge, "198.51.100.1, 203.0.114.5", "/x").status == 403
            assert ask(edge, "192.0.2.7", "/x").status == 200
            assert ask(edge, "203.0.113.5", "/health/ready").status == 200
        (request,) = held.requests
        assert len(edge.app.requests) == 2
    assert request.startswith(b"PUT /x/%2ey?q=%2f HTTP/1.1\r\n")
    assert request.endswith(b"\r\n\r\ndata")
    assert b"6.6.6.6" not in request
    assert f"\r\nHost: {NAME}:{edges.HTTPS_PORT}\r\n".encode() in request
