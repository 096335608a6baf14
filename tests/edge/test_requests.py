"""Requests that are malformed, ambiguous or forged: none reaches the app other than as Nginx has understood it."""

from __future__ import annotations

import contextlib
import re
import time

import pytest

from tests.templates import render

from . import attacks
from .edge import HTTPS_PORT, NAME, Edge, Reply, read_all

HOST = f"{NAME}:{HTTPS_PORT}"
EMPTIED: list[str] = render.variables("nginx")["__nginx_emptied_headers"]


def check(edge: Edge) -> None:
    """Each request that reached the app is a normal one, and one that Nginx knows of."""
    for request in edge.app.requests:
        assert attacks.unlike_normal(request, HOST, EMPTIED) == [], request
    found = [re.search(rb"(?i)x-request-id: (\w+)", request) for request in edge.app.requests]
    ids = {match[1].decode() if match else "" for match in found}
    deadline = time.monotonic() + 2  # Nginx writes its line when the client has the answer
    while unknown := ids - {entry["request_id"] for entry in edge.log() if entry["upstream_status"]}:
        assert time.monotonic() < deadline, f"Nginx does not know of {unknown}"
        time.sleep(0.01)


@pytest.mark.parametrize("name", attacks.HTTP1)
def test_a_request_of_http_1_reaches_the_app_only_normalised(edge: Edge, name: str) -> None:
    with edge.connect(timeout=0.5) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(attacks.http1(NAME, name))
        answer = read_all(connection)
    assert re.match(rb"HTTP/1.1 (2|4\d\d|501|505)|$", answer), answer[:200]
    check(edge)


@pytest.mark.parametrize("name", attacks.HTTP2)
def test_a_request_of_http_2_reaches_the_app_only_normalised(edge: Edge, name: str) -> None:
    with edge.connect("h2") as connection:
        attacks.send_http2(connection, NAME, attacks.HTTP2[name])
        attacks.wait_for_end(connection)
    check(edge)


def test_what_is_called_abnormal() -> None:
    """The judge of the tests above sees what it is to see."""
    normal = f"POST /x?y HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-Host: {HOST}\r\nX-Forwarded-Proto: https\r\n"
    assert attacks.unlike_normal(f"{normal}Content-Length: 1\r\n\r\na".encode(), HOST, EMPTIED) == []
    for wrong in (
        f"{normal}Content-Length: 1\r\n\r\nab",
        f"{normal}Transfer-Encoding: chunked\r\n\r\n",
        f"{normal}Host: {HOST}\r\n\r\n",
        f"{normal}Forwarded: for=6.6.6.6\r\n\r\n",
        f"{normal}X_Real_IP: 6.6.6.6\r\n\r\n",
        f"{normal}Upgrade: h2c\r\n\r\n",
        normal.replace("/x?", "/x/%2E%2e/y?") + "\r\n",
        normal.replace("/x?", "//x?") + "\r\n",
        normal.replace(HOST, "evil.example") + "\r\n",
    ):
        assert attacks.unlike_normal(wrong.encode(), HOST, EMPTIED) != [], wrong


# Who the client is, and where it asked


@pytest.mark.parametrize("http2", [False, True])
def test_nothing_of_a_client_passes_for_what_a_proxy_says(edge: Edge, http2: bool) -> None:
    set_by_nginx = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Request-ID"]
    forged = [*EMPTIED, *set_by_nginx]
    forged += [name.replace("-", "_") for name in forged] + [name.replace("-", ".") for name in forged]
    for start in range(0, len(forged), 100):  # HTTP/1 and 2 bound the size of all
        names = forged[start : start + 100]
        if http2:
            names = [name.lower() for name in names]
            with edge.connect("h2") as connection:
                pseudo = [*attacks.HTTP2["path without slash"][:3], (":path", "/")]
                attacks.send_http2(connection, NAME, [*pseudo, *((name, "f0rged") for name in names)])
                attacks.wait_for_end(connection)
        else:
            assert edge.get("/", *(f"{name}: f0rged" for name in names)).status == 200
    assert len(edge.app.requests) == -(-len(forged) // 100)
    check(edge)
    for request in edge.app.requests:
        assert b"f0rged" not in request
        assert f"\r\nHost: {HOST}\r\n".encode() in request
        assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in request
        assert f"\r\nX-Forwarded-Port: {HTTPS_PORT}\r\n".encode() in request


@pytest.mark.parametrize(
    ("target", "host"),
    [("/", NAME), ("/", NAME.upper()), ("/", f"{NAME}:9evil"), ("/", f"{NAME}:22"), ("/", f"{NAME}."),
     (f"http://{NAME}/", "evil.example"), (f"https://{NAME}:666/", f"{NAME}:9evil")],
)  # fmt: skip
def test_the_app_gets_the_declared_name_and_port(edge: Edge, target: str, host: str) -> None:
    edge.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert re.findall(rb"(?m)^(?:X-Forwarded-)?Host: (.*)\r$", b"".join(edge.app.requests)) in ([HOST.encode()] * 2, [])
    check(edge)


def test_what_the_app_needs_of_a_client_passes(edge: Edge) -> None:
    sent = [
        "Authorization: Bearer x",
        "Cookie: a=b; c=d",
        "Origin: https://o",
        "X-Own: 1",
        "Accept: */*",
        "X-HTTP-Method-Override: PUT",
    ]
    edge.get("/x/y?z=%2e%2e//%ff", *sent)
    edge.get("/", "Connection: Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: x")
    request, websocket = edge.app.requests
    assert request.startswith(b"GET /x/y?z=%2e%2e//%ff HTTP/1.1\r\n")
    assert all(line.encode() in request for line in sent)
    assert b"\r\nUpgrade: websocket\r\n" in websocket
    assert b"\r\nConnection: upgrade\r\n" in websocket
    assert b"Sec-WebSocket-Key: x" in websocket


@pytest.mark.parametrize(
    ("method", "asked"),
    [("GET", "h2c"), ("GET", "websocket, h2c"), ("GET", "TLS/1.0"), ("POST", "websocket"), ("GET", "")],
)
def test_nothing_but_a_websocket_is_upgraded(edge: Edge, method: str, asked: str) -> None:
    edge.get("/", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {asked}", "HTTP2-Settings: AAM", method=method)
    (request,) = edge.app.requests
    assert not re.search(rb"(?im)^(upgrade|http2-settings|connection):", request)


# Paths

SLASHES = ("/", "//", "%2f", "%2F", "%252f", "\\", "%5c", "%255C", ";/", "/;/", "/x;y/")
DOTS = ("..", ".", "%2e%2e", "%2E%2E", ".%2e", "%2e.", "%252e%252e", "%25252e.", "%2e", "%252E")


@pytest.mark.parametrize("http2", [False, True])
def test_dot_segments_are_refused_in_whatever_encoding(edge: Edge, http2: bool) -> None:
    targets = [
        f"/metrics{one}{dots}{other}x" for one in SLASHES[:8] for dots in DOTS for other in ("/", "%2f", "\\", ";")
    ]
    targets += [f"/a/{dots}{end}" for dots in DOTS for end in ("", "?x", "/", "#", "%3b")]
    wrong = {target: status for target in targets if (status := _status(edge, target, http2)) not in (400, 404)}
    assert wrong == {}
    assert edge.app.requests == []
    refused = [target for target in targets if _status(edge, target, http2) == 400]
    assert len(refused) > len(targets) * 0.9


METRICS = (
    "/metrics", "/metrics/", "/metrics/x", "/metrics?x", "/metrics?/../", "//metrics", "/metrics//", "/%6detrics",
    "/metric%73", "/%6D%65%74%72%69%63%73", "/metrics%2f", "/metrics%2Fx", "/Metrics", "/METRICS/", "/metrics;x",
    "/metrics;/x", "/metrics%3bx", "/metrics#", "/metrics%00", "/metrics\\x", "/x/../metrics", "/./metrics",
    "/x/%2e%2e/metrics",
    "/metrics/../metrics", "///metrics", "/%2fmetrics", "/%2Fmetrics/x", "/metrics%20", "/metrics%0a",
)  # fmt: skip
# Not the metrics' address, but what another reader could take for it: the app decodes once, as Nginx does.
OTHERS = (
    "/metricsx",
    "/metrics.json",
    "/xmetrics",
    "/x/metrics",
    "/%256detrics",
    "/metrics%20",
    "/metrics%252f",
)


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("target", METRICS)
def test_metrics_are_not_for_the_outside(edge: Edge, target: str, http2: bool) -> None:
    status = _status(edge, target, http2)
    if target not in OTHERS:
        assert status in (0, 400, 404)
        assert edge.app.requests == []


@pytest.mark.parametrize("target", OTHERS)
def test_what_is_called_like_metrics_is_the_apps(edge: Edge, target: str) -> None:
    assert edge.get(target).status == 200
    (request,) = edge.app.requests
    assert request.startswith(f"GET {target} HTTP/1.1".encode())


@pytest.mark.parametrize(
    "target",
    ["/", "/a..b", "/..a", "/a.", "/.well-known/x", "/...", "/a/.../b", "/a?x=/../", "/a?b#c", "/a%2eb",
     "/a/%2e%2e%2e/b", "/v1.0/x", "/a;b=c", "/a%2fb", "/a%20b", "/%c3%bc", "/a//b", "/proxy/https://x/y",
     "/~a/!$&'()*+,=:@-._"],
)  # fmt: skip
def test_ordinary_paths_reach_the_app_as_they_were_sent(edge: Edge, target: str) -> None:
    assert edge.get(target).status == 200
    (request,) = edge.app.requests
    assert request.startswith(f"GET {target} HTTP/1.1\r\n".encode())


def _status(edge: Edge, target: str, http2: bool) -> int:
    """The status of an answer; 0 where there is none."""
    if not http2:
        return Reply.parse(
            edge.send(f"GET {target} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        ).status
    with edge.connect("h2") as connection:
        attacks.send_http2(connection, NAME, [*attacks.HTTP2["path without slash"][:3], (":path", target)], body=b"")
        return attacks.status(attacks.wait_for_end(connection))
