"""Observability of a served app: JSON log lines, metrics over all workers, error reports without secrets."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest
import sentry_sdk
from fastapi import Request
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport
from sentry_sdk.types import Event

from app import sentry
from app.main import create_app
from app.settings import SettingsError

from .conftest import client_of, make_settings, make_token
from .served import WORKERS, CrashedError, Served, serve

MODULE = """
import os, signal, warnings
from app.main import app

@app.get("/broken/{number}")
async def broken(number: int) -> None:
    raise RuntimeError(f"broken {number}")

@app.get("/killed")
async def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)

@app.get("/warned")
async def warned() -> None:
    warnings.warn("this will go")
"""
SECRET_KEY = "key-of-the-tests-that-nobody-may-see-0123456789"


@pytest.fixture
async def token(migrated_sqlite: Path, tmp_path: Path) -> str:
    """The environment of an app with the database `tmp_path`/logbook.sqlite3."""
    made = create_app(make_settings(f"sqlite+aiosqlite:///{shutil.copy(migrated_sqlite, tmp_path)}"))
    async with made.router.lifespan_context(made):
        return await make_token(made, name="the tests")


@pytest.fixture
def served(token: str, tmp_path: Path) -> Iterator[Served]:  # noqa: ARG001  # the token's database
    environment = {
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/logbook.sqlite3",
        "SECRET_KEY": SECRET_KEY,
        "LOG_LEVEL": "debug",  # what is written at any level is
        "RELEASE_TAG": "v1.2.0",
        "RELEASE_SHA": "a" * 40,
    }
    with serve(MODULE, environment) as started:
        yield started


def samples(exposition: str) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """The metrics as name -> labels -> value."""
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            assert labels not in found.setdefault(sample.name, {}), "a series comes twice"
            found[sample.name][labels] = sample.value
    return found


def get(served: Served, path: str, **headers: str) -> httpx.Response:
    with served.client() as client:
        return client.get(path, headers=headers)


def test_all_log_lines_are_json_and_without_secrets(served: Served, token: str) -> None:
    authorization = f"Bearer {token}"
    given = "0123456789abcdef0123456789abcdef"
    cookie = "session=what-the-browser-was-given"
    answer = get(served, "/api/v1/services?q=in-the-query", Authorization=authorization, **{"X-Request-ID": given})
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (200, given)
    assert get(served, "/api/v1/services", Authorization=authorization + "x", Cookie=cookie).status_code == 401
    assert get(served, "/api/v1/services/" + token, Authorization=authorization).status_code == 422
    assert get(served, "/" + token, Cookie=cookie).status_code == 404
    with served.client() as client:
        large = client.post("/api/v1/services", content=(b" " * 1024 for _ in range(10_000)))  # 10 MB, in chunks
        assert (large.status_code, large.json()["type"]) == (413, "/problems/too-large")
        assert client.post("/api/v1/services", content=b" " * 10_000_000).status_code == 413
        broken = client.get("/broken/7", headers={"Authorization": authorization, "Cookie": cookie})
        assert (broken.status_code, client.get("/warned").status_code) == (500, 200)
    output = served.stop()

    lines = [json.loads(line) for line in output.splitlines()]
    for line in lines:
        assert {"time", "level", "logger", "message", "release"} <= line.keys()
        assert line["release"] == "v1.2.0"
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
    loggers = {line["logger"] for line in lines}
    assert {"gunicorn.error", "uvicorn.error", "app.request", "py.warnings"} <= loggers
    assert "aiosqlite" not in loggers
    for secret in (token, token.split("_", 2)[2], "what-the-browser", SECRET_KEY, "in-the-query"):
        assert secret not in output

    (line,) = (line for line in lines if line.get("request_id") == given)
    expected = {"method": "GET", "route": "/api/v1/services", "status": 200, "token": "the tests", "level": "INFO"}
    assert {key: line[key] for key in expected} == expected
    requests = [line for line in lines if "duration_ms" in line]
    assert {line["level"] for line in requests if line["route"] == "/health/ready"} == {"DEBUG"}
    statuses = sorted(line["status"] for line in requests if line["level"] == "INFO")
    assert statuses == [200, 200, 401, 404, 413, 413, 422, 500]
    (error,) = (line for line in lines if "exc_info" in line)
    assert error["exc_info"].endswith("RuntimeError: broken 7")
    assert error["request_id"] == broken.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("raise RuntimeError('broken at import')", "RuntimeError: broken at import"),
        ("import app.nowhere", "No module named 'app.nowhere'"),
        ("name = 1", "Failed to find attribute 'app' in 'served'"),
        ("import os; os.environ['LOG_LEVEL'] = 'loud'; from app.main import app", "LOG_LEVEL is wrong"),
    ],
)
def test_log_lines_are_json_even_if_the_app_cannot_be_loaded(module: str, reason: str) -> None:
    with pytest.raises(CrashedError) as caught, serve(module, {"RELEASE_TAG": "v1.2.0"}):
        pass
    lines = [json.loads(line) for line in str(caught.value).splitlines()]
    assert any(reason in line["message"] + line.get("exc_info", "") for line in lines)


def test_metrics_are_summed_over_all_workers(served: Served) -> None:
    asked: dict[int, int] = {}
    while len(asked) < WORKERS or sum(asked.values()) < 20:
        pid = get(served, "/health/ready").json()["pid"]
        asked[pid] = asked.get(pid, 0) + 1
    before = samples(get(served, "/metrics").text)
    get(served, "/nowhere")
    for _ in range(10):  # whichever answers
        answer = get(served, "/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        found = samples(answer.text)
        ready = {("method", "GET"), ("route", "/health/ready")}
        # Those that were asked while it started came before.
        assert found["http_requests_total"][frozenset({*ready, ("status", "200")})] >= sum(asked.values())
        assert found["http_requests_total"] | before["http_requests_total"] != before["http_requests_total"]
        assert found["http_request_duration_seconds_count"][frozenset(ready)] >= sum(asked.values())
        assert found["http_requests_in_flight"] == {frozenset(): 1}  # this one
        assert found["database_pool_connections_in_use"] == {frozenset(): 0}
        assert found["logbook_build_info"] == {frozenset({("tag", "v1.2.0"), ("sha", "a" * 40)}): 1}
    assert "/metrics" not in get(served, "/openapi.json").text


def test_counts_of_a_killed_worker_stay_but_not_its_requests_in_flight(served: Served) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        get(served, "/killed")
    get(served, "/nowhere")
    deadline = time.monotonic() + 10
    while samples(get(served, "/metrics").text)["http_requests_in_flight"] != {frozenset(): 1}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    counts = samples(get(served, "/metrics").text)["http_requests_total"]
    assert counts[frozenset({("method", "GET"), ("route", "/health/ready"), ("status", "200")})] >= WORKERS


async def test_connections_that_are_in_use_are_counted(tmp_path: Path) -> None:
    def in_use() -> float | None:
        return REGISTRY.get_sample_value("database_pool_connections_in_use")

    app = create_app(make_settings(f"sqlite+aiosqlite:///{tmp_path}/empty.sqlite3"))
    async with app.router.lifespan_context(app):
        engine = app.state.engine
        async with engine.connect(), engine.connect() as second:
            assert in_use() == 2
            await second.invalidate()
        assert in_use() == 0
        async with engine.connect():
            assert in_use() == 1
    assert in_use() == 0


# Sentry


@pytest.fixture
def reports() -> Iterator[list[Event]]:
    """The events that are sent to Sentry."""
    yield []
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


class Kept(Transport):
    def __init__(self, reports: list[Event]) -> None:
        super().__init__()
        self._reports = reports

    def capture_envelope(self, envelope: Envelope) -> None:
        if event := envelope.get_event():
            self._reports.append(event)


async def test_a_sentry_report_has_the_error_but_no_data_of_the_client(
    monkeypatch: pytest.MonkeyPatch, reports: list[Event]
) -> None:
    start = sentry.start
    monkeypatch.setattr(sentry, "start", lambda settings: start(settings, transport=Kept(reports)))
    app = create_app(make_settings("sqlite+aiosqlite://", sentry_dsn="https://key@sentry.test/1"))

    @app.post("/broken")
    async def broken(request: Request, body: dict[str, str]) -> None:
        token = request.headers["Authorization"]
        raise RuntimeError(f"{len(token)} and {len(body)}")

    secret = os.urandom(8).hex()  # no literal: a report shows the lines of code around the error
    async with client_of(app, secret) as client:
        sent = {"Cookie": f"session={secret}", "X-Forwarded-For": secret}
        answer = await client.post(f"/broken?q={secret}", json={"key": secret}, headers=sent)
        assert (await client.get("/nowhere")).status_code == 404
    assert answer.status_code == 500
    (report,) = reports
    assert (report["release"], report["environment"]) == ("v1.2.0", "development")
    assert report["exception"]["values"][-1]["value"] == "23 and 1"
    assert report["request"] == {"method": "POST", "url": "https://logbook.test/broken", "headers": {}}
    assert report["extra"]["request_id"] == answer.headers["X-Request-ID"]
    assert secret not in json.dumps(report, default=str)


def test_without_a_dsn_nothing_is_reported_and_a_wrong_one_is_named() -> None:
    sentry.start(make_settings("sqlite+aiosqlite://"))
    assert not sentry_sdk.get_client().is_active()
    with pytest.raises(SettingsError, match="SENTRY_DSN"):
        sentry.start(make_settings("sqlite+aiosqlite://", sentry_dsn="https://sentry.test"))
