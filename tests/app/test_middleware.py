"""The log line and the metrics of each request, and the limit of its body."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any, TextIO

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.staticfiles import StaticFiles
from prometheus_client import REGISTRY

from app.logs import JsonLines
from app.main import create_app
from app.middleware import MAX_BODY

from .conftest import PROJECT, client_of, make_settings


@pytest.fixture
def app() -> FastAPI:
    """An app with all kinds of routes, without a database."""
    made = create_app(make_settings("sqlite+aiosqlite://"))
    router = APIRouter(prefix="/inner")

    @router.get("/{number}")
    async def inner(number: int, request: Request) -> str:
        request.state.token_name = "ci"
        logging.getLogger("app.inner").warning("within %d", number)
        return str(request.state.request_id)

    @made.get("/broken/{number}")
    async def broken(number: int) -> None:
        raise RuntimeError(f"broken {number}")

    @made.post("/echo")
    async def echo(body: list[str]) -> int:
        return len(body)

    made.include_router(router, prefix="/outer")
    made.mount("/files", StaticFiles(directory=PROJECT / "tests"))
    return made


class Written:
    """The lines of the log."""

    def __init__(self) -> None:
        self._stream = io.StringIO()

    def attach(self, handler: logging.StreamHandler[TextIO]) -> None:
        handler.setStream(self._stream)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def requests(self) -> list[tuple[str, str, int]]:
        return [(line["method"], line["route"], line["status"]) for line in self.lines() if "duration_ms" in line]


@pytest.fixture
def log(app: FastAPI) -> Written:  # noqa: ARG001  # which configures logging
    written = Written()
    (handler,) = (h for h in logging.getLogger().handlers if isinstance(h.formatter, JsonLines))
    assert isinstance(handler, logging.StreamHandler)
    written.attach(handler)
    return written


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/outer/inner/7?secret=1", "/outer/inner/{number}", 200),
        ("GET", "/outer/inner/x", "/outer/inner/{number}", 422),
        ("PATCH", "/outer/inner/7", "/outer/inner/{number}", 405),
        ("GET", "/broken/7", "/broken/{number}", 500),
        ("GET", "/openapi.json", "/openapi.json", 200),
        ("GET", "/files/app/conftest.py", "/files/{path}", 200),
        ("GET", "/nowhere/7", "unmatched", 404),
        ("BREW", "/nowhere/8", "unmatched", 404),
    ],
)
async def test_a_request_is_logged_and_counted_by_its_template(
    app: FastAPI, log: Written, method: str, path: str, route: str, status: int
) -> None:
    method_label = "other" if method == "BREW" else method
    labels = {"method": method_label, "route": route, "status": str(status)}
    before = REGISTRY.get_sample_value("http_requests_total", labels) or 0
    async with client_of(app) as client:
        assert (await client.request(method, path)).status_code == status
    assert log.requests() == [(method_label, route, status)]
    assert REGISTRY.get_sample_value("http_requests_total", labels) == before + 1
    assert REGISTRY.get_sample_value("http_requests_in_flight") == 0


async def test_passing_health_checks_are_not_logged(app: FastAPI, log: Written) -> None:
    async with client_of(app) as client:
        await client.get("/health/live")
        assert log.requests() == []
        await client.post("/health/live")
        assert log.requests() == [("POST", "/health/live", 405)]


@pytest.mark.parametrize("sent", ["a" * 8, "A.b_c-9" * 9, "0123456789abcdef" * 2])
async def test_a_valid_request_id_is_kept(app: FastAPI, log: Written, sent: str) -> None:
    async with client_of(app) as client:
        answer = await client.get("/outer/inner/7", headers={"X-Request-ID": sent})
    assert (answer.json(), answer.headers.get_list("X-Request-ID")) == (sent, [sent])
    assert [(line["logger"], line["request_id"]) for line in log.lines() if line["logger"] != "httpx"] == [
        ("app.inner", sent),
        ("app.request", sent),
    ]
    assert [line["token"] for line in log.lines() if "duration_ms" in line] == ["ci"]


@pytest.mark.parametrize("sent", ["", "short", "a" * 65, 'a"b{c}d e', "abcdefgh\t"])
async def test_an_invalid_request_id_is_replaced(app: FastAPI, sent: str) -> None:
    async with client_of(app) as client:
        answer = await client.get("/outer/inner/7", headers={"X-Request-ID": sent})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert answer.json() == answer.headers["X-Request-ID"]


async def test_an_unhandled_error_is_logged_once_and_the_client_gets_its_id(app: FastAPI, log: Written) -> None:
    async with client_of(app) as client:
        answer = await client.get("/broken/7")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")
    assert "X-Request-ID" in answer.headers
    assert "broken 7" not in answer.text
    (line,) = (line for line in log.lines() if "exc_info" in line)
    assert line["exc_info"].endswith("RuntimeError: broken 7")
    assert (line["level"], line["request_id"]) == ("ERROR", answer.headers["X-Request-ID"])


async def chunks(count: int) -> AsyncIterator[bytes]:
    yield b"["
    for _ in range(count):
        yield b" " * 1023
    yield b"]"


@pytest.mark.parametrize("path", ["/echo", "/nowhere"])
async def test_a_too_large_content_length_is_refused(app: FastAPI, log: Written, path: str) -> None:
    async with client_of(app) as client:
        answer = await client.post(path, content=b"[" + b" " * MAX_BODY + b"]")
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/too-large"
    assert "X-Request-ID" in answer.headers
    assert log.requests() == [("POST", "unmatched", 413)]  # nobody has looked for a route


async def test_a_too_large_body_without_content_length_is_refused(app: FastAPI, log: Written) -> None:
    async with client_of(app) as client:
        answer = await client.post("/echo", content=chunks(100))
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/too-large"
    assert log.requests() == [("POST", "/echo", 413)]


async def test_a_body_of_exactly_the_limit_is_accepted(app: FastAPI) -> None:
    async with client_of(app) as client:
        client.headers["Content-Type"] = "application/json"
        answer = await client.post("/echo", content=b"[" + b" " * (MAX_BODY - 2) + b"]")
        assert (answer.status_code, answer.json()) == (200, 0)
        assert (await client.post("/echo", content=chunks(64))).status_code == 200
