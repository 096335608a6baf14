"""What Nginx answers by itself, and what it adds to the app's answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest

from tests.templates import render

from . import attacks
from . import edge as edges
from .edge import NAME, Edge, Reply

SET_WHERE_MISSING = {
    "strict-transport-security": "max-age=31536000",
    **{name.lower(): value for name, value in render.variables("nginx")["__nginx_answer_headers"].items()},
}
HTML = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def _saying(answer: str) -> edges.Answer:
    return lambda _: answer.encode()


def _raw(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


# Each status that Nginx answers by itself, and a request for it.
OWN = {
    "400": _raw("GET /../x HTTP/1.1", f"Host: {NAME}", "ACCEPT"),
    "400, refused by a rule": _raw("GET /a/%2e%2e/b HTTP/1.1", f"Host: {NAME}", "ACCEPT"),
    "404": _raw("GET /metrics HTTP/1.1", f"Host: {NAME}", "ACCEPT"),
    "405": _raw("TRACE / HTTP/1.1", f"Host: {NAME}", "ACCEPT"),
    "405, CONNECT": _raw("CONNECT / HTTP/1.1", f"Host: {NAME}", "ACCEPT"),
    "413": _raw("POST / HTTP/1.1", f"Host: {NAME}", "ACCEPT", "Content-Length: 99999999"),
    "414": _raw(f"GET /{'a' * 20000} HTTP/1.1", f"Host: {NAME}", "ACCEPT"),
    "431": _raw("GET / HTTP/1.1", f"Host: {NAME}", "ACCEPT", f"X-Large: {'a' * 20000}"),
    "501": _raw("POST / HTTP/1.1", f"Host: {NAME}", "ACCEPT", "Transfer-Encoding: x"),
    "505": _raw("GET / HTTP/3.0", f"Host: {NAME}", "ACCEPT"),
}


def _ask(edge: Edge, name: str, accept: str) -> Reply:
    return Reply.parse(edge.send(OWN[name].replace(b"ACCEPT", f"{accept}\r\nConnection: close".encode())))


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(
    "accept", ["Accept: application/json", "Accept: */*", "X-None: 1", "Accept: application/json, text/html;q=0"]
)
def test_an_error_of_nginx_is_a_problem_detail_with_the_id_of_the_request(edge: Edge, name: str, accept: str) -> None:
    answer = _ask(edge, name, accept)
    assert answer.status == int(name[:3])
    assert answer.one("content-type") == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status
    assert set(problem) == {"type", "title", "status", "detail", "request_id"}
    assert problem["type"] == "about:blank"
    assert problem["request_id"] == answer.one("x-request-id")
    assert edge.app.requests == []
    for header, value in SET_WHERE_MISSING.items():
        assert answer.one(header) == value
    assert answer.one("cache-control") == "no-store"


@pytest.mark.parametrize("name", ["400, refused by a rule", "404", "405", "413", "501"])
def test_a_browser_gets_a_page(edge: Edge, name: str) -> None:
    answer = _ask(edge, name, HTML)
    assert answer.status == int(name[:3])
    assert answer.one("content-type") == "text/html; charset=utf-8"
    page = answer.body.decode()
    assert answer.one("x-request-id") in page
    assert "nginx" not in page
    assert re.search(r"style-src 'sha256-", answer.one("content-security-policy"))


@pytest.mark.parametrize("name", ["405", "405, CONNECT"])
def test_a_method_that_is_not_supported_is_told_those_that_are(edge: Edge, name: str) -> None:
    answer = _ask(edge, name, "Accept: */*")
    assert "GET" in answer.one("allow")
    assert "TRACE" not in answer.one("allow")
    edge.app.answer = lambda _: b"HTTP/1.1 405 No\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n"
    assert edge.get("/", method="DELETE").one("allow") == "GET"
    edge.app.answer = lambda _: b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"
    assert edge.get("/", method="DELETE").all("allow") == []


def test_http_2_gets_the_same(edge: Edge) -> None:
    with httpx.Client(verify=False, http2=True, headers={"Host": NAME}) as client:  # noqa: S501  # a name of no network
        url, name = f"https://127.0.0.1:{edge.https}", {"sni_hostname": NAME}
        answer = client.request("TRACE", url, extensions=name)
        large = client.post(url, headers={"Content-Length": "99999999"}, content=b"", extensions=name)
        page = client.get(f"{url}/metrics", headers={"Accept": "text/html"}, extensions=name)
    assert answer.http_version == "HTTP/2"
    assert (answer.status_code, answer.json()["title"]) == (405, "Method Not Allowed")
    assert "GET" in answer.headers["allow"]
    assert large.status_code == 413
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")


def test_an_app_that_does_not_answer_is_503_with_the_time_to_wait(tmp_path: Path) -> None:
    with edges.running(tmp_path, request_timeout=1, graceful_timeout=1) as edge:
        edge.app.answer = lambda _: b""  # it hangs up
        answer = edge.get("/x?q=1")
        page = edge.get("/x?q=1", HTML)
        edge.app.path.rename(tmp_path / "gone")
        away = edge.get("/x", method="POST", body=b"data")
        (tmp_path / "gone").rename(edge.app.path)
    log = edge.log()
    for found in (answer, away, page):
        assert (found.status, found.one("retry-after")) == (503, "5")
    assert answer.json()["title"] == "Service Unavailable"
    assert [(entry["status"], entry["upstream_status"], entry["method"], entry["uri"]) for entry in log] == [
        (503, "502", "GET", "/x"), (503, "502", "GET", "/x"), (503, "502", "POST", "/x"),
    ]  # fmt: skip
    assert log[0]["upstream_connect_time"] != ""
    assert log[2]["upstream_connect_time"] == "-"


def test_the_apps_own_errors_are_left_alone(edge: Edge) -> None:
    for status in (400, 404, 405, 429, 500, 502, 503, 504):
        edge.app.answer = _saying(f"HTTP/1.1 {status} X\r\nContent-Length: 3\r\n\r\nown")
        answer = edge.get("/", HTML)
        assert (answer.status, answer.body) == (status, b"own")
        assert answer.all("retry-after") == answer.all("content-security-policy") == []


@pytest.mark.parametrize("name", SET_WHERE_MISSING)
def test_a_header_that_the_app_has_sent_is_not_sent_again(edge: Edge, name: str) -> None:
    edge.app.answer = lambda _: f"HTTP/1.1 200 OK\r\n{name.title()}: own\r\nContent-Length: 0\r\n\r\n".encode()
    answer = edge.get("/")
    assert answer.one(name) == "own"
    assert all(answer.one(other) == value for other, value in SET_WHERE_MISSING.items() if other != name)


def test_what_tells_of_the_app_is_left_out(edge: Edge) -> None:
    edge.app.answer = lambda _: (
        b"HTTP/1.1 200 OK\r\nServer: uvicorn\r\nX-Powered-By: x\r\nX-Request-ID: own\r\nContent-Length: 0\r\n\r\n"
    )
    answer = edge.get("/")
    assert (answer.one("server"), answer.all("x-powered-by")) == ("nginx", [])
    assert re.fullmatch(r"[0-9a-f]{32}", answer.one("x-request-id"))


def test_http_is_redirected_and_has_no_hsts(edge: Edge) -> None:
    answer = httpx.get(f"http://127.0.0.1:{edge.http}/x?y", headers={"Host": NAME})
    assert (answer.status_code, answer.headers["location"]) == (301, f"https://{NAME}:{edges.HTTPS_PORT}/x?y")
    assert "strict-transport-security" not in answer.headers  # RFC 6797, section 7.2
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{edge.http}/x", headers={"Host": "evil.example"})


def test_an_address_of_the_error_pages_is_none_of_a_client(edge: Edge) -> None:
    for path in ("/.slipway/problem", "/.slipway/page"):
        answer = edge.get(path)
        assert (answer.status, answer.json()["title"]) == (404, "Not Found")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/.slipway/x", 200),
        ("/.slipway/problem/", 200),
        ("/.slipway/problem.json", 200),
        ("/.slipway/x/%2e%2e/y", 400),
        ("//.slipway/x", 400),
        ("//.slipway/problem", 404),
        ("/x/../.slipway/page", 404),
    ],
)
def test_only_the_error_pages_themselves_pass_what_other_addresses_do_not(edge: Edge, target: str, status: int) -> None:
    assert edge.get(target).status == status
    assert len(edge.app.requests) == (1 if status == 200 else 0)


# Logs

SECRET = "s3cr3t-of-a-query"


def test_no_log_has_a_query(tmp_path: Path) -> None:
    """Whatever goes wrong with a request, on whichever level Nginx would write it."""
    with edges.running(tmp_path, request_timeout=1, graceful_timeout=1) as edge:
        referrer = f"Referer: https://{NAME}/?{SECRET}"
        for request in OWN.values():
            first, rest = request.split(b" HTTP", 1)
            edge.send(first + f"?token={SECRET} HTTP".encode() + rest.replace(b"ACCEPT", referrer.encode()))
        for target in (f"/x?{SECRET}", f"/%2e%2e?{SECRET}", f"/x#{SECRET}", f"/x?a=%zz&{SECRET}"):
            edge.get(target, referrer)
        edge.app.answer = lambda _: b""
        assert edge.get(f"/?{SECRET}", referrer).status == 503
        edge.app.answer = lambda _: b"HTTP/1.1 200 OK\r\nX-Large: " + b"a" * 90000 + b"\r\n\r\n"
        assert edge.get(f"/?{SECRET}", referrer).status == 503
        edge.app.answer = lambda _: b"nonsense"
        edge.get(f"/?{SECRET}", referrer)
        edge.app.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
        edge.get(f"/?{SECRET}", referrer)
        edge.app.path.rename(tmp_path / "gone")
        assert edge.get(f"/?{SECRET}", referrer, method="POST", body=b"x" * 90000).status == 503
        (tmp_path / "gone").rename(edge.app.path)
        with edge.connect("h2") as connection:
            attacks.send_http2(connection, NAME, [*attacks.HTTP2["path empty"][:3], (":path", f"/%00?{SECRET}")])
            attacks.wait_for_end(connection)
    log, written = edge.log(), edge.logged()
    assert len(log) > len(OWN) + 8
    assert SECRET not in written
    assert {"/metrics", "/x", "/"} <= {entry["uri"] for entry in log}
    assert json.dumps(log)
